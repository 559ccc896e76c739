package natsremote

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"os/signal"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/helixrouter/helix"
	"github.com/helixrouter/helix/remote"
	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// The test binary is the worker's program too: with these set it serves until SIGTERM.
const (
	envURL = "NATSREMOTE_TEST_URL"
	envID  = "NATSREMOTE_TEST_ID"
	envMax = "NATSREMOTE_TEST_MAX_IN_FLIGHT"
)

func TestMain(m *testing.M) {
	if url := os.Getenv(envURL); url != "" {
		most, _ := strconv.Atoi(os.Getenv(envMax))
		ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
		defer stop()
		nc, err := nats.Connect(url, Options()...)
		if err == nil {
			r, _ := newRouter(nil)
			_, _ = nc.Subscribe(bareSubject, func(m *nats.Msg) { _ = m.Respond(m.Data) })
			err = Serve(ctx, nc, r, WorkerConfig{ID: os.Getenv(envID), WorkerConfig: remote.WorkerConfig{MaxInFlight: most}})
		}
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// order is what a worker is to do.
type order struct {
	Sleep time.Duration
	Size  int // of the output
	Fail  string
	Panic string
	Mark  string // a file to append the worker's id to, once it has begun
}

func do(ctx context.Context, o order) (string, error) {
	if o.Mark != "" {
		f, err := os.OpenFile(o.Mark, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
		if err != nil {
			return "", err
		}
		fmt.Fprintln(f, os.Getenv(envID))
		f.Close()
	}
	select {
	case <-time.After(o.Sleep):
	case <-ctx.Done():
		return "", ctx.Err()
	}
	if o.Panic != "" {
		panic(o.Panic)
	}
	if o.Fail != "" {
		return "", errors.New(o.Fail)
	}
	return os.Getenv(envID) + strings.Repeat("x", o.Size), nil
}

// tasks are the kinds that client and workers have in common. They wait, so that a test
// machine of two cores has room for many.
type tasks struct{ once, again *helix.Task[order, string] }

func newRouter(client *remote.Client) (*helix.Router, tasks) {
	cfg := helix.RouterConfig{}
	if client != nil {
		cfg.Strategies, cfg.Policy = []helix.Strategy{client}, elsewhere{}
	}
	r, err := helix.New(cfg)
	must(err)
	kind := helix.Kind[order, string]{Name: "once", Run: do, Waits: true, Codec: helix.JSON[order, string]{}}
	once, err := helix.Register(r, kind)
	must(err)
	kind.Name, kind.Idempotent = "again, and again", true // a name that is no subject
	again, err := helix.Register(r, kind)
	must(err)
	return r, tasks{once, again}
}

func must(err error) {
	if err != nil {
		panic(err)
	}
}

// elsewhere is a policy that has jobs done by workers whenever it can.
type elsewhere struct{}

func (elsewhere) Choose(_ helix.JobInfo, p helix.Pressure) helix.Decision {
	if p.Offers != nil {
		return helix.Decision{Strategy: "remote", Reason: "a worker can"}
	}
	return helix.Decision{Strategy: helix.Drop, Reason: "no worker can"}
}

func startServer(t testing.TB, o server.Options) *server.Server {
	t.Helper()
	if o.Host = "127.0.0.1"; o.Port == 0 {
		o.Port = server.RANDOM_PORT
	}
	o.NoSigs, o.NoLog = true, true
	s, err := server.NewServer(&o)
	require.NoError(t, err)
	go s.Start()
	require.True(t, s.ReadyForConnections(10*time.Second))
	t.Cleanup(func() { s.Shutdown(); s.WaitForShutdown() })
	return s
}

// startWorker starts a process that serves.
func startWorker(t testing.TB, url, id string, env ...string) *exec.Cmd {
	t.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(append(os.Environ(), envURL+"="+url, envID+"="+id), env...)
	cmd.Stderr = os.Stderr
	require.NoError(t, cmd.Start())
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	return cmd
}

type submitter struct {
	nc     *nats.Conn
	client *remote.Client
	router *helix.Router
	tasks
}

func newSubmitter(t testing.TB, url string, workers int, opts ...nats.Option) *submitter {
	t.Helper()
	nc, err := nats.Connect(url, append(Options(), opts...)...)
	require.NoError(t, err)
	s := &submitter{nc: nc}
	s.client, err = NewClient(nc, ClientConfig{})
	require.NoError(t, err)
	s.router, s.tasks = newRouter(s.client)
	t.Cleanup(func() {
		require.NoError(t, s.router.Close())
		total := s.client.Stats().Total
		require.Zero(t, total.Flying)
		require.Equal(t, total.Sent, total.Answered+total.Refused+total.Undelivered+total.Unsent+total.Lost)
		nc.Close()
	})
	s.await(t, workers)
	return s
}

// await waits until so many workers may be sent jobs.
func (s *submitter) await(t testing.TB, workers int) {
	t.Helper()
	require.Eventually(t, func() bool { return s.alive() == workers }, 30*time.Second, 5*time.Millisecond)
}

func (s *submitter) alive() (n int) {
	for _, w := range s.client.Stats().Workers {
		if w.Alive && len(w.Kinds) == 2 {
			n++
		}
	}
	return n
}

func (s *submitter) isAlive(worker string) bool {
	for _, w := range s.client.Stats().Workers {
		if w.Worker == worker {
			return w.Alive && w.Silent == 0
		}
	}
	return false
}

// begun waits until the mark says that so many jobs have begun.
func begun(t testing.TB, mark string, jobs int) {
	t.Helper()
	require.Eventually(t, func() bool {
		b, _ := os.ReadFile(mark)
		return strings.Count(string(b), "\n") == jobs
	}, 30*time.Second, time.Millisecond)
}

func TestJobsAreDoneByWorkers(t *testing.T) {
	url := startServer(t, server.Options{}).ClientURL()
	s := newSubmitter(t, url, 0)
	begin := time.Now()
	_, err := s.once.Submit(t.Context(), order{})
	require.ErrorIs(t, err, helix.ErrNotRun, "no worker")
	t.Logf("no worker: told in %v", time.Since(begin))

	startWorker(t, url, "w1")
	s.await(t, 1)
	for _, task := range []*helix.Task[order, string]{s.once, s.again} {
		got, err := task.Submit(t.Context(), order{})
		require.NoError(t, err)
		require.Equal(t, "w1", got)
	}
	_, err = s.once.Submit(t.Context(), order{Fail: "disk is full"})
	var job *remote.JobError
	require.ErrorAs(t, err, &job)
	require.Equal(t, "disk is full", job.Text)

	func() {
		defer func() { require.Equal(t, "boom", recover().(*helix.PanicError).Value) }()
		_, _ = s.once.Submit(t.Context(), order{Panic: "boom"})
		t.Error("it did not panic")
	}()

	mark := t.TempDir() + "/mark"
	ctx, cancel := context.WithCancel(t.Context())
	go func() {
		for b := []byte{}; len(b) == 0; b, _ = os.ReadFile(mark) {
			time.Sleep(time.Millisecond)
		}
		cancel()
	}()
	_, err = s.once.Submit(ctx, order{Sleep: time.Hour, Mark: mark})
	require.ErrorIs(t, err, context.Canceled)

	_, err = s.once.Submit(t.Context(), order{Fail: strings.Repeat("x", 1<<20)})
	require.ErrorIs(t, err, helix.ErrNotRun, "larger than what can be sent")
	_, err = s.once.Submit(t.Context(), order{Size: 1 << 20})
	require.NotErrorIs(t, err, helix.ErrNotRun)
	require.ErrorContains(t, err, "output larger than what can be sent")
}

func TestAWorkerThatIsKilled(t *testing.T) {
	url := startServer(t, server.Options{}).ClientURL()
	w := startWorker(t, url, "w1")
	s := newSubmitter(t, url, 1)
	mark := t.TempDir() + "/mark"
	var done sync.WaitGroup
	var onceErr, againErr error
	var again string
	done.Go(func() { _, onceErr = s.once.Submit(context.Background(), order{Sleep: 2 * time.Second, Mark: mark}) })
	done.Go(func() {
		again, againErr = s.again.Submit(context.Background(), order{Sleep: 2 * time.Second, Mark: mark})
	})
	begun(t, mark, 2)
	startWorker(t, url, "w2")
	s.await(t, 2)
	require.NoError(t, w.Process.Kill())
	done.Wait()
	require.ErrorIs(t, onceErr, helix.ErrLost)
	require.NotErrorIs(t, onceErr, helix.ErrNotRun)
	require.NoError(t, againErr)
	require.Equal(t, "w2", again)
	begun(t, mark, 3) // the idempotent one twice, the other once
	require.EqualValues(t, 2, s.client.Stats().Total.Lost)
}

func TestAWorkerThatIsStoppedAndComesBack(t *testing.T) {
	url := startServer(t, server.Options{}).ClientURL()
	w := startWorker(t, url, "w1")
	s := newSubmitter(t, url, 1)
	require.NoError(t, w.Process.Signal(syscall.SIGSTOP))
	_, err := s.once.Submit(t.Context(), order{Sleep: 2 * time.Second}) // it may take a while to stop
	require.ErrorIs(t, err, helix.ErrLost)

	startWorker(t, url, "w2")
	require.Eventually(t, func() bool { // the stopped one is silent, the new one there
		_, err := s.once.Submit(t.Context(), order{})
		return err == nil && s.alive() == 1 && !s.isAlive("w1")
	}, 30*time.Second, 50*time.Millisecond)
	for range 20 {
		got, err := s.once.Submit(t.Context(), order{})
		require.NoError(t, err)
		require.Equal(t, "w2", got)
	}
	require.NoError(t, w.Process.Signal(syscall.SIGCONT))
	s.await(t, 2)
}

// What a full worker refuses goes to another, and back when all are full.
func TestAWorkerThatIsFull(t *testing.T) {
	url := startServer(t, server.Options{}).ClientURL()
	startWorker(t, url, "w1", envMax+"=1")
	s := newSubmitter(t, url, 1)
	dir := t.TempDir()
	ctx, release := context.WithCancel(t.Context())
	defer release()
	var held sync.WaitGroup
	hold := func(mark string) {
		held.Go(func() {
			_, err := s.once.Submit(ctx, order{Sleep: time.Hour, Mark: mark})
			assert.ErrorIs(t, err, context.Canceled)
		})
		begun(t, mark, 1)
	}
	hold(dir + "/first")
	startWorker(t, url, "w2", envMax+"=1")
	s.await(t, 2)
	for range 20 {
		got, err := s.once.Submit(t.Context(), order{})
		require.NoError(t, err)
		require.Equal(t, "w2", got)
	}
	hold(dir + "/second")
	mark := dir + "/refused"
	var took []time.Duration
	for range 100 {
		begin := time.Now()
		_, err := s.once.Submit(t.Context(), order{Mark: mark})
		require.ErrorIs(t, err, helix.ErrNotRun)
		took = append(took, time.Since(begin))
		time.Sleep(2 * time.Millisecond) // so that both are asked again
	}
	slices.Sort(took)
	t.Logf("both full: refused in %v at the median, %v at most", took[50], took[99])
	require.NoFileExists(t, mark)
	release()
	held.Wait()
	require.Eventually(t, func() bool {
		_, err := s.once.Submit(t.Context(), order{})
		return err == nil
	}, 30*time.Second, 5*time.Millisecond)
	require.Zero(t, s.client.Stats().Total.Lost)
}

// Without a worker, even one that the client does not know to be gone, jobs run here if the
// policy has a place for them.
func TestJobsRunHereWhenNoWorkerIsLeft(t *testing.T) {
	url := startServer(t, server.Options{}).ClientURL()
	w := startWorker(t, url, "w1")
	s := newSubmitter(t, url, 1)
	require.NoError(t, s.router.Update(func(c *helix.RouterConfig) { c.Policy = elsewhereOrHere{} }))
	got, err := s.once.Submit(t.Context(), order{})
	require.NoError(t, err)
	require.Equal(t, "w1", got)
	require.NoError(t, w.Process.Kill())
	_ = w.Wait()
	for range 20 {
		got, err := s.once.Submit(t.Context(), order{})
		if errors.Is(err, helix.ErrLost) { // the server had not noticed yet
			continue
		}
		require.NoError(t, err)
		require.Empty(t, got, "done here")
	}
	require.LessOrEqual(t, s.client.Stats().Total.Lost, uint64(1))
}

// elsewhereOrHere is elsewhere, with a place to fall back to.
type elsewhereOrHere struct{}

func (elsewhereOrHere) Choose(j helix.JobInfo, p helix.Pressure) helix.Decision {
	if d := (elsewhere{}).Choose(j, p); d.Strategy != helix.Drop {
		return d
	}
	return helix.Decision{Strategy: helix.Spawn, Reason: "here"}
}

// SIGTERM at one of three workers in the middle of 3,000 jobs: none is lost, and none refused.
func TestAWorkerThatIsDrainedLosesNothing(t *testing.T) {
	url := startServer(t, server.Options{}).ClientURL()
	w := startWorker(t, url, "w1")
	startWorker(t, url, "w2")
	startWorker(t, url, "w3")
	s := newSubmitter(t, url, 3)
	var left, failed atomic.Int64
	left.Store(3000)
	var done sync.WaitGroup
	for range 24 {
		done.Go(func() {
			for {
				n := left.Add(-1)
				if n < 0 {
					return
				}
				if n == 1500 {
					_ = w.Process.Signal(syscall.SIGTERM)
				}
				_, err := s.once.Submit(context.Background(), order{Sleep: 5 * time.Millisecond})
				if err != nil {
					failed.Add(1)
					t.Log(err)
				}
			}
		})
	}
	done.Wait()
	require.Zero(t, failed.Load(), "%+v", s.client.Stats())
	require.Zero(t, s.client.Stats().Total.Lost)
	require.NoError(t, w.Wait(), "it has left by itself")
}

// What is sent while the server is away fails at once and never arrives later.
func TestTheServerIsRestarted(t *testing.T) {
	first := startServer(t, server.Options{})
	port := first.Addr().(*net.TCPAddr).Port
	startWorker(t, first.ClientURL(), "w1")
	s := newSubmitter(t, first.ClientURL(), 1, nats.ReconnectWait(20*time.Millisecond))
	mark := t.TempDir() + "/mark"
	var lost error
	var done sync.WaitGroup
	done.Go(func() {
		_, lost = s.once.Submit(context.Background(), order{Sleep: 100 * time.Millisecond, Mark: mark})
	})
	begun(t, mark, 1)
	first.Shutdown()
	done.Wait()
	require.ErrorIs(t, lost, helix.ErrLost)
	for range 100 {
		_, err := s.once.Submit(t.Context(), order{Mark: mark})
		require.ErrorIs(t, err, helix.ErrNotRun)
	}
	startServer(t, server.Options{Port: port})
	s.await(t, 1)
	require.Eventually(t, func() bool { // the worker comes back when it does
		_, err := s.once.Submit(t.Context(), order{})
		return err == nil
	}, 30*time.Second, 10*time.Millisecond)
	begun(t, mark, 1) // none of the hundred
}

func TestPermissionsSuffice(t *testing.T) {
	permit := func(publish, subscribe []string) *server.Permissions {
		return &server.Permissions{Publish: &server.SubjectPermission{Allow: publish}, Subscribe: &server.SubjectPermission{Allow: subscribe}}
	}
	url := startServer(t, server.Options{Users: []*server.User{
		{Username: "client", Password: "c", Permissions: permit([]string{"helix.w.>", "helix.p.*", "helix.hello"}, []string{"helix.load.>", "helix.c.c1.*"})},
		{Username: "worker", Password: "w", Permissions: permit([]string{"helix.load.*.w1", "helix.c.>"}, []string{"helix.w.w1.*", "helix.p.w1", "helix.hello"})},
	}}).ClientURL()
	var denied atomic.Int64
	opts := append(Options(), nats.ErrorHandler(func(_ *nats.Conn, _ *nats.Subscription, err error) {
		denied.Add(1)
		t.Log(err)
	}))
	wc, err := nats.Connect(url, append(opts, nats.UserInfo("worker", "w"))...)
	require.NoError(t, err)
	defer wc.Close()
	r, _ := newRouter(nil)
	defer r.Close()
	ctx, stop := context.WithCancel(t.Context())
	var served sync.WaitGroup
	var serveErr error
	served.Go(func() { serveErr = Serve(ctx, wc, r, WorkerConfig{ID: "w1"}) })

	cc, err := nats.Connect(url, append(opts, nats.UserInfo("client", "c"))...)
	require.NoError(t, err)
	defer cc.Close()
	client, err := NewClient(cc, ClientConfig{ID: "c1"})
	require.NoError(t, err)
	s := &submitter{nc: cc, client: client}
	s.router, s.tasks = newRouter(client)
	s.await(t, 1)
	_, err = s.again.Submit(t.Context(), order{})
	require.NoError(t, err)
	require.NoError(t, s.router.Close())
	stop()
	served.Wait()
	require.NoError(t, serveErr)
	require.NoError(t, cc.Flush())
	require.NoError(t, wc.Flush())
	require.Zero(t, denied.Load())

	// And they keep others out: a client cannot read other clients' jobs.
	_, err = cc.SubscribeSync("helix.w.>")
	require.NoError(t, err)
	require.Eventually(t, func() bool { return denied.Load() == 1 }, 10*time.Second, time.Millisecond)
}

func TestWhatCannotWorkIsRefused(t *testing.T) {
	nc, err := nats.Connect(startServer(t, server.Options{}).ClientURL())
	require.NoError(t, err)
	defer nc.Close()
	_, err = NewClient(nc, ClientConfig{})
	require.ErrorContains(t, err, "ReconnectBufSize")
	r, _ := newRouter(nil)
	defer r.Close()
	require.ErrorContains(t, Serve(t.Context(), nc, r, WorkerConfig{}), "ReconnectBufSize")
	ok, err := nats.Connect(nc.ConnectedUrl(), Options()...)
	require.NoError(t, err)
	defer ok.Close()
	_, err = NewClient(ok, ClientConfig{Namespace: "a..b"})
	require.ErrorContains(t, err, "Namespace")
	err = Serve(cancelled(), ok, r, WorkerConfig{ID: strings.Repeat("w", 129)})
	require.ErrorContains(t, err, "ID has 129 bytes")
	require.NoError(t, Serve(cancelled(), ok, r, WorkerConfig{ID: strings.Repeat("w", 128)}))
}

func cancelled() context.Context {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	return ctx
}

// A worker whose connection is closed can do nothing any more, and says so.
func TestAWorkerWhoseConnectionIsClosed(t *testing.T) {
	url := startServer(t, server.Options{}).ClientURL()
	s := newSubmitter(t, url, 0)
	nc, err := nats.Connect(url, Options()...)
	require.NoError(t, err)
	r, _ := newRouter(nil)
	defer r.Close()
	served := make(chan error, 1)
	go func() { served <- Serve(t.Context(), nc, r, WorkerConfig{}) }()
	s.await(t, 1)
	nc.Close()
	select {
	case err := <-served:
		require.ErrorIs(t, err, nats.ErrConnectionClosed)
	case <-time.After(10 * time.Second):
		require.Fail(t, "it goes on to serve")
	}
}

// Whoever may tell of one worker cannot tell of another.
func TestAWorkerTellsOfItselfOnly(t *testing.T) {
	s := newSubmitter(t, startServer(t, server.Options{}).ClientURL(), 0)
	tell := func(subject, worker string) {
		frame := (&remote.Presence{Worker: worker, Kind: "once", Load: remote.Load{Slots: 1}}).Append(nil)
		require.NoError(t, s.nc.Publish(subject, frame))
	}
	tell("helix.load.once.w1", "w2")
	tell("helix.load.again.w2", "w2")
	tell("helix.load.once.w3", "w3")
	require.Eventually(t, func() bool { return len(s.client.Stats().Workers) > 0 }, 30*time.Second, time.Millisecond)
	known := s.client.Stats().Workers
	require.Len(t, known, 1)
	require.Equal(t, "w3", known[0].Worker)
}

// A worker writes nowhere but to answers, and stays alive whatever it is sent.
func TestAWorkerIsNotAToolForOthers(t *testing.T) {
	url := startServer(t, server.Options{}).ClientURL()
	startWorker(t, url, "w1")
	s := newSubmitter(t, url, 1)
	sub, err := s.nc.SubscribeSync("elsewhere")
	require.NoError(t, err)
	job := (&remote.Request{Attempt: 1, Kind: "once", Input: []byte("{}")}).AppendJob(nil)
	for i := range job {
		require.NoError(t, s.nc.PublishRequest("helix.w.w1.once", "elsewhere", job[:i]))
		require.NoError(t, s.nc.PublishRequest("helix.p.w1", "elsewhere", job[:i]))
	}
	require.NoError(t, s.nc.PublishRequest("helix.w.w1.once", "elsewhere", job))
	_, err = s.once.Submit(t.Context(), order{})
	require.NoError(t, err)
	n, _, err := sub.Pending()
	require.NoError(t, err)
	require.Zero(t, n)
}

// An answer in place of one that is too large keeps what the client learns from.
func TestTooLargeAnAnswer(t *testing.T) {
	load := remote.Load{Slots: 4, Busy: 2, Run: time.Second}
	done := remote.Reply{Status: remote.StatusDone, Wait: time.Second, Run: time.Minute, Load: load, Body: make([]byte, 2000)}
	r, err := remote.ParseReply(tooLarge(done.Append(nil), 1000))
	require.NoError(t, err)
	require.Equal(t, remote.StatusFailed, r.Status)
	require.Contains(t, string(r.Body), "the server takes 1000")
	require.Equal(t, []any{time.Second, time.Minute, load}, []any{r.Wait, r.Run, r.Load})
}

func TestTokensAreDifferentAndFit(t *testing.T) {
	seen := map[string]string{}
	for _, name := range []string{"a", "a.b", "a b", "a*", "a>", "=", "a=2eb", "ä", "", "A-b_9"} {
		got := token(name)
		require.NotContains(t, seen, got, name)
		require.False(t, strings.ContainsAny(got, " .*>\t"), got)
		seen[got] = name
	}
}
