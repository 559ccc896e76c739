package httpstats

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/helixrouter/helix"
)

type historyData struct {
	StepS  float64 `json:"step_s"`
	Points []point `json:"points"`
}

type tickData struct {
	Point point          `json:"point"`
	Stats map[string]any `json:"stats"`
}

// TestStream follows a page through its life: it opens late and sees what was
// before, follows along, loses the connection, and goes on where it was.
func TestStream(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRouter(t, helix.RouterConfig{})
		h := newHandler(t, r, WithName("checkout"), WithConfigWrites())
		server := newPipeServer(t, h)
		time.Sleep(1500 * time.Millisecond)
		for range 3 {
			submit(t, r, helix.Job{Cost: 1, Budget: time.Minute})
		}
		time.Sleep(2 * time.Second) // 3.5 s: three points, the second with three jobs

		page := server.open(t, "")
		e, err := page.next()
		require.NoError(t, err)
		require.Equal(t, "hello", e.event)
		greeting := decode[hello](t, e.data)
		require.Equal(t, "checkout", greeting.Name)
		require.Equal(t, []string{"batch", "cpu_pool", "drop", "inline", "spawn"}, greeting.Strategies)
		require.Equal(t, time.Now().Add(-3500*time.Millisecond).UnixMilli(), greeting.StartedMs)
		require.True(t, greeting.ConfigWrites)
		require.False(t, greeting.Burst)

		history := decode[historyData](t, page.until("history").data)
		require.Equal(t, 1.0, history.StepS)
		require.Len(t, history.Points, 3)
		require.Zero(t, history.Points[0].Submitted)
		p := history.Points[1]
		require.EqualValues(t, 3, p.Submitted)
		require.EqualValues(t, 3, p.Completed)
		require.EqualValues(t, 3, p.Promised)
		require.EqualValues(t, 3, p.Kept)
		require.EqualValues(t, 3, p.Routed[helix.Inline])
		require.EqualValues(t, 3, p.Latency[helix.Inline].Count)
		require.Contains(t, p.Latency, helix.Spawn)
		require.Nil(t, p.Latency[helix.Spawn])
		require.NotNil(t, p.P99Ms)
		require.Nil(t, history.Points[2].P99Ms, "nothing ended in that step")
		require.EqualValues(t, 1, p.LengthS)

		var decisions []decision
		require.NoError(t, jsonUnmarshal(page.until("decisions").data, &decisions))
		require.Len(t, decisions, 3, "a page sees the latest decisions at once")

		e = page.until("tick")
		tick := decode[tickData](t, e.data)
		require.Equal(t, strconv.FormatUint(tick.Point.ID, 10), e.id)
		require.Equal(t, history.Points[2].ID+1, tick.Point.ID)
		require.Equal(t, "checkout", tick.Stats["name"])
		require.Equal(t, 3.0, tick.Stats["completed"])
		page.close()

		time.Sleep(3500 * time.Millisecond) // misses three
		page = server.open(t, e.id)
		history = decode[historyData](t, page.until("history").data)
		require.Len(t, history.Points, 3)
		require.Equal(t, tick.Point.ID+1, history.Points[0].ID)
		next := decode[tickData](t, page.until("tick").data)
		require.Equal(t, tick.Point.ID+4, next.Point.ID, "no gap, none twice")
		page.close()

		// An id from before a restart, or an unknown one, gets all points.
		for _, id := range []string{"1", "99999999999", "none"} {
			page = server.open(t, id)
			require.Len(t, decode[historyData](t, page.until("history").data).Points, 8, id)
			page.close()
		}
	})
}

func TestResumeByParameter(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHandler(t, newRouter(t, helix.RouterConfig{}))
		server := newPipeServer(t, h)
		time.Sleep(5500 * time.Millisecond)
		res, err := server.client.Get(fmt.Sprintf("http://helix/api/stream?last_id=%d", h.sampler.first+3))
		require.NoError(t, err)
		page := reader{t: t, body: res.Body, scan: newScan(res.Body)}
		require.Len(t, decode[historyData](t, page.until("history").data).Points, 1)
		page.close()
	})
}

// TestIDsGoOnAfterARestart checks that a page which resumes at a new process
// with an id of the old one is not told that it misses nothing.
func TestIDsGoOnAfterARestart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		old := newHandler(t, newRouter(t, helix.RouterConfig{}))
		time.Sleep(time.Minute)
		synctest.Wait()
		last := old.sampler.next - 1
		require.NoError(t, old.Close())
		h := newHandler(t, newRouter(t, helix.RouterConfig{}))
		server := newPipeServer(t, h)
		time.Sleep(5500 * time.Millisecond)
		page := server.open(t, strconv.FormatUint(last, 10))
		require.Len(t, decode[historyData](t, page.until("history").data).Points, 5)
		page.close()
	})
}

func TestHistoryKeepsAQuarterOfAnHour(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHandler(t, newRouter(t, helix.RouterConfig{}))
		server := newPipeServer(t, h)
		time.Sleep(20*time.Minute + time.Millisecond)
		page := server.open(t, "")
		points := decode[historyData](t, page.until("history").data).Points
		require.Len(t, points, historyPoints)
		for i, p := range points[1:] {
			require.Equal(t, points[i].ID+1, p.ID)
			require.Equal(t, points[i].TimeMs+1000, p.TimeMs)
		}
		require.Equal(t, time.Now().Add(-time.Millisecond).UnixMilli(), points[historyPoints-1].TimeMs)
		page.close()
	})
}

func TestDecisionsOnTheStream(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRouter(t, helix.RouterConfig{Policy: helix.ThresholdPolicy{}})
		h := newHandler(t, r)
		server := newPipeServer(t, h)
		page := server.open(t, "")
		page.until("history")
		for range 30 { // more than is shown of a flood
			submit(t, r, helix.Job{Kind: "<script>", Cost: 1, Budget: time.Second, Priority: helix.High})
		}
		submit(t, r, helix.Job{Kind: "late", Cost: 1e9, Budget: time.Millisecond})
		submit(t, r, helix.Job{Kind: "bad", Waits: true, Run: func(context.Context) (any, error) { return nil, errJob }})
		var got []decision
		require.NoError(t, jsonUnmarshal(page.until("decisions").data, &got))
		require.Len(t, got, 32, "all, while there are few")
		byKind := map[string]decision{}
		for i, d := range got {
			byKind[d.Kind] = d
			require.True(t, i == 0 || got[i-1].Seq < d.Seq, "newest last")
		}
		small, late, bad := byKind["<script>"], byKind["late"], byKind["bad"]

		require.Equal(t, helix.Inline, small.Strategy)
		require.Equal(t, "cost within inline_threshold", small.Reason)
		require.Equal(t, helix.Completed, small.Status)
		require.Equal(t, helix.High, small.Priority)
		require.EqualValues(t, 1000, *small.BudgetMs)
		require.EqualValues(t, 1000, *small.SlackMs)
		require.True(t, *small.InBudget)
		require.EqualValues(t, 1, *small.Cost)
		require.Equal(t, 1, small.Members)
		require.NotNil(t, small.TookMs)
		require.Nil(t, small.Error)
		require.Len(t, small.Rejected, 3)

		require.Equal(t, helix.Drop, late.Strategy)
		require.Equal(t, helix.Dropped, late.Status)
		require.Equal(t, "budget cannot be met", late.Reason)
		require.InDelta(t, 1000, float64(*late.PredictedMs), 1)
		require.Nil(t, late.TookMs)
		require.Nil(t, late.InBudget)

		require.Equal(t, helix.Spawn, bad.Strategy)
		require.Equal(t, helix.Failed, bad.Status)
		require.Equal(t, errJob.Error(), *bad.Error)
		require.Nil(t, bad.BudgetMs)
		require.Nil(t, bad.PredictedMs, "nothing was known")
		page.close()
	})
}

// TestStreamLimit fills all places and finds one again when a page leaves.
func TestStreamLimit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHandler(t, newRouter(t, helix.RouterConfig{}))
		server := newPipeServer(t, h)
		pages := make([]*reader, 32)
		for i := range pages {
			pages[i] = server.open(t, "")
			pages[i].until("history")
		}
		res, err := server.client.Get("http://helix/api/stream")
		require.NoError(t, err)
		body, err := io.ReadAll(res.Body)
		require.NoError(t, err)
		require.Equal(t, http.StatusServiceUnavailable, res.StatusCode)
		require.Equal(t, "5", res.Header.Get("Retry-After"))
		require.Contains(t, decode[failure](t, string(body)).Error, "too many")
		pages[0].close()
		synctest.Wait()
		page := server.open(t, "")
		page.until("history")
		page.close()
		for _, p := range pages {
			p.close()
		}
	})
}

// TestFloodIsSampled has more decisions than can be read for longer than what was saved
// lasts.
func TestFloodIsSampled(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRouter(t, helix.RouterConfig{Policy: helix.ThresholdPolicy{}})
		h := newHandler(t, r)
		st, _, refused := h.sampler.subscribe(0, "")
		require.Empty(t, refused)
		shown, frames := 0, 0
		for range 40 { // 10 s
			for range 5 {
				time.Sleep(50 * time.Millisecond)
				for range 40 {
					submit(t, r, helix.Job{Cost: 1})
				}
			}
			synctest.Wait()
			for range len(st.frames) {
				frame := string(<-st.frames)
				if data, ok := strings.CutPrefix(frame, "event: decisions\ndata: "); ok {
					shown += len(decode[[]decision](t, data))
					frames++
				}
			}
		}
		require.Greater(t, frames, 30)
		require.Greater(t, shown, decisionsSaved)
		require.LessOrEqual(t, shown, decisionsSaved+40*decisionsShown, "20 a second, after what was saved")
	})
}

// TestStreamsPerClient has one client take all it can get, and others come after it.
func TestStreamsPerClient(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHandler(t, newRouter(t, helix.RouterConfig{}), WithStreamLimit(5))
		open := func(client string) (*stream, bool) {
			time.Sleep(time.Millisecond)
			st, _, refused := h.sampler.subscribe(0, client)
			return st, refused == ""
		}
		var greedy []*stream
		for i := range 5 {
			st, ok := open("10.0.0.1")
			require.Equal(t, i < 3, ok, "half of all, rounded up")
			greedy = append(greedy, st)
		}
		for _, other := range []string{"10.0.0.2", "10.0.0.3"} {
			_, ok := open(other)
			require.True(t, ok, other)
		}
		_, ok := open("10.0.0.4")
		require.False(t, ok, "all places are taken")

		// None of them reads. After ten seconds the oldest have to go.
		time.Sleep(streamTurn)
		for i := range 2 {
			_, ok = open("10.0.0.4")
			require.True(t, ok)
			requireGone(t, greedy[i])
		}
		_, ok = open("10.0.0.1")
		require.True(t, ok)
		requireGone(t, greedy[2])
		require.Equal(t, 5, h.sampler.open())
	})
}

func requireGone(t *testing.T, st *stream) {
	t.Helper()
	select {
	case <-st.gone:
	default:
		require.Fail(t, "the stream has kept its place")
	}
}

// TestReadersThatReadNothing is the attack itself, over the network.
func TestReadersThatReadNothing(t *testing.T) {
	h := newHandler(t, newRouter(t, helix.RouterConfig{}))
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if from := r.Header.Get("From"); from != "" {
			r.RemoteAddr = from
		}
		h.ServeHTTP(w, r)
	}))
	defer server.Close()
	for range 33 {
		conn, err := net.Dial("tcp", server.Listener.Addr().String())
		require.NoError(t, err)
		defer conn.Close()
		_, err = io.WriteString(conn, "GET /api/stream HTTP/1.1\r\nHost: localhost\r\n\r\n")
		require.NoError(t, err)
		status, err := newScan(conn).ReadString('\n') // a line, and no more
		require.NoError(t, err)
		require.NotEmpty(t, status)
	}
	ask := func(from string) int {
		req, err := http.NewRequest(http.MethodGet, server.URL+"/api/stream", nil)
		require.NoError(t, err)
		req.Header.Set("From", from)
		res, err := http.DefaultClient.Do(req)
		require.NoError(t, err)
		require.NoError(t, res.Body.Close())
		return res.StatusCode
	}
	require.Equal(t, http.StatusOK, ask("192.0.2.7:1234"), "another client is refused")
	require.Equal(t, http.StatusServiceUnavailable, ask(""))
}

func TestStreamHeaders(t *testing.T) {
	h := newHandler(t, newRouter(t, helix.RouterConfig{}))
	require.Equal(t, "no-store, no-transform", ask(h, http.MethodHead, "/api/stream", "").Header().Get("Cache-Control"))
}

// TestResumedPageGetsDecisions has a page that was hidden for a while come back.
func TestResumedPageGetsDecisions(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRouter(t, helix.RouterConfig{})
		h := newHandler(t, r)
		server := newPipeServer(t, h)
		page := server.open(t, "")
		id := page.until("tick").id
		page.close()
		submit(t, r, helix.Job{Kind: "meanwhile", Cost: 1})
		time.Sleep(3500 * time.Millisecond)
		page = server.open(t, id)
		require.Len(t, decode[historyData](t, page.until("history").data).Points, 3)
		require.Contains(t, page.until("decisions").data, "meanwhile")
		page.close()
	})
}

// TestDecisionHasTheLimitOnItsDownstream tells no downstream, one without a limit and a full one apart.
func TestDecisionHasTheLimitOnItsDownstream(t *testing.T) {
	for want, e := range map[string]helix.Event{
		`"in_flight":null,"limit":null`: {},
		`"in_flight":7,"limit":null`:    {Info: helix.JobInfo{Waits: true}, Pressure: helix.Pressure{InFlight: 7}},
		`"in_flight":7,"limit":6`:       {Info: helix.JobInfo{Waits: true}, Pressure: helix.Pressure{InFlight: 7, DownstreamLimit: 6}},
	} {
		got, err := json.Marshal(newDecision(&e))
		require.NoError(t, err)
		require.Contains(t, string(got), want)
	}
}

// TestDecisionRefusedAfterAdmission shows why the job did not run, and why it was admitted.
func TestDecisionRefusedAfterAdmission(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRouter(t, helix.RouterConfig{Policy: helix.ThresholdPolicy{}, CPUParallelism: 1, BackpressureBusyThreshold: 9})
		h := newHandler(t, r)
		st, _, refused := h.sampler.subscribe(0, "")
		require.Empty(t, refused)
		var running sync.WaitGroup
		running.Go(func() {
			submit(t, r, helix.Job{Kind: "long", Run: func(context.Context) (any, error) {
				time.Sleep(2 * time.Second)
				return nil, nil
			}})
		})
		synctest.Wait()
		submit(t, r, helix.Job{Kind: "short", Budget: time.Second})
		running.Wait()
		time.Sleep(time.Second)
		synctest.Wait()
		var d decision
		for range len(st.frames) {
			if data, ok := strings.CutPrefix(string(<-st.frames), "event: decisions\ndata: "); ok {
				for _, seen := range decode[[]decision](t, data) {
					if seen.Kind == "short" {
						d = seen
					}
				}
			}
		}
		require.Len(t, r.Stats().DroppedByReason, 1)
		require.Equal(t, r.Stats().DroppedByReason[0].Reason, d.Reason)
		require.Equal(t, helix.Drop, d.Strategy)
		require.Equal(t, helix.Dropped, d.Status)
		require.NotNil(t, d.Admitted)
		require.Equal(t, helix.CPUPool, d.Admitted.Strategy)
		require.NotEqual(t, d.Reason, d.Admitted.Reason)
		require.EqualValues(t, 1000, *d.Admitted.SlackMs)
		require.GreaterOrEqual(t, float64(*d.WaitMs), 1000., "it waited in vain")
		require.LessOrEqual(t, float64(*d.SlackMs), 0.)
		require.Nil(t, d.TookMs)
	})
}

// TestStalledReaderIsEvicted opens a stream that is never read: net.Pipe has no
// buffers, so the first write stalls, and its deadline must end it.
func TestStalledReaderIsEvicted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHandler(t, newRouter(t, helix.RouterConfig{}))
		server := newPipeServer(t, h)
		live := server.open(t, "")
		live.until("history")
		stalled, err := server.dial(t.Context(), "", "")
		require.NoError(t, err)
		_, err = io.WriteString(stalled, "GET /api/stream HTTP/1.1\r\nHost: helix\r\n\r\n")
		require.NoError(t, err)
		synctest.Wait()
		require.Equal(t, 2, h.sampler.open())
		for range 5 { // the live one goes on meanwhile
			live.until("tick")
		}
		time.Sleep(time.Second)
		synctest.Wait()
		require.Equal(t, 1, h.sampler.open(), "the stalled stream must be gone after its five seconds")
		live.until("tick")
		// What it was sent before its connection broke is all that there is.
		rest, err := io.ReadAll(stalled)
		require.NoError(t, err)
		require.Empty(t, rest)
		live.close()
		require.NoError(t, stalled.Close())
	})
}

// TestSlowStreamLosesDecisionsThenItsPlace holds a stream that takes nothing at
// all, below HTTP, until it has used up what the sampler keeps for it.
func TestSlowStreamLosesDecisionsThenItsPlace(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRouter(t, helix.RouterConfig{})
		h := newHandler(t, r)
		st, _, refused := h.sampler.subscribe(0, "")
		require.Empty(t, refused)
		for range streamBuffer {
			submit(t, r, helix.Job{Cost: 1})
			time.Sleep(time.Second)
		}
		synctest.Wait()
		decisions, ticks := 0, 0
		for range len(st.frames) {
			if frame := string(<-st.frames); strings.HasPrefix(frame, "event: decisions") {
				decisions++
			} else {
				ticks++
			}
		}
		require.Equal(t, streamBuffer, decisions+ticks)
		require.LessOrEqual(t, decisions, streamBufferDecisions, "ticks must find room")
		require.Positive(t, decisions)
		time.Sleep((streamBuffer + 1) * time.Second)
		synctest.Wait()
		select {
		case <-st.gone:
		default:
			require.Fail(t, "a stream that takes nothing must be dropped")
		}
		require.Zero(t, h.sampler.open())
	})
}

// TestCloseEndsStreams checks that pages see a proper end, that nothing is left
// behind (the bubble would not end), and that the rest is still served.
func TestCloseEndsStreams(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h, err := New(newRouter(t, helix.RouterConfig{}))
		require.NoError(t, err)
		server := newPipeServer(t, h)
		server.server.RegisterOnShutdown(func() { require.NoError(t, h.Close()) })
		page := server.open(t, "")
		page.until("tick")
		ended := make(chan error)
		go func() {
			for {
				if _, err := page.next(); err != nil {
					ended <- err
					return
				}
			}
		}()
		require.NoError(t, server.server.Shutdown(t.Context()), "Shutdown waits for streams, so they must end")
		require.ErrorIs(t, <-ended, io.EOF)
		require.NoError(t, h.Close(), "twice is once")
		require.Zero(t, h.sampler.open())
		require.Equal(t, http.StatusOK, ask(h, "GET", "/api/stats", "").Code)
		w := httptest.NewRecorder()
		h.ServeHTTP(deadlines{w}, httptest.NewRequest("GET", "/api/stream", nil))
		require.Equal(t, http.StatusServiceUnavailable, w.Code)
	})
}

// deadlines pretends to have some, which a recorder does not.
type deadlines struct{ *httptest.ResponseRecorder }

func (deadlines) SetWriteDeadline(time.Time) error { return nil }

func TestStreamNeedsDeadlines(t *testing.T) {
	h := newHandler(t, newRouter(t, helix.RouterConfig{}))
	w := ask(h, "GET", "/api/stream", "") // a recorder has none
	require.Equal(t, http.StatusNotImplemented, w.Code)
	require.Contains(t, decode[failure](t, w.Body.String()).Error, "middleware")
	require.Zero(t, h.sampler.open())
}

// TestStreamOutlivesTheServersTimeouts runs on a real network with timeouts
// that a stream exceeds many times.
func TestStreamOutlivesTheServersTimeouts(t *testing.T) {
	h := newHandler(t, newRouter(t, helix.RouterConfig{}), func(o *options) { o.step = 10 * time.Millisecond })
	server := httptest.NewUnstartedServer(h)
	server.Config.ReadTimeout, server.Config.WriteTimeout = 50*time.Millisecond, 50*time.Millisecond
	server.Start()
	defer server.Close()
	res, err := http.Get(server.URL + "/api/stream")
	require.NoError(t, err)
	page := reader{t: t, body: res.Body, scan: newScan(res.Body)}
	for range 20 {
		page.until("tick")
	}
	page.close()
}

// TestStalledReaderOnANetwork is the real thing: kernel buffers fill up, then
// the deadline breaks the connection.
func TestStalledReaderOnANetwork(t *testing.T) {
	h := newHandler(t, newRouter(t, helix.RouterConfig{}), func(o *options) {
		o.step, o.frameTimeout = time.Millisecond, 100*time.Millisecond
	})
	gone := make(chan struct{})
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		defer close(gone)
		h.ServeHTTP(w, r)
	}))
	server.Config.ConnContext = func(ctx context.Context, c net.Conn) context.Context {
		require.NoError(t, c.(*net.TCPConn).SetWriteBuffer(4096))
		return ctx
	}
	server.Start()
	defer server.Close()
	conn, err := net.Dial("tcp", server.Listener.Addr().String())
	require.NoError(t, err)
	defer conn.Close()
	require.NoError(t, conn.(*net.TCPConn).SetReadBuffer(4096))
	_, err = io.WriteString(conn, "GET /api/stream HTTP/1.1\r\nHost: localhost\r\n\r\n")
	require.NoError(t, err)
	select {
	case <-gone:
	case <-time.After(20 * time.Second):
		require.Fail(t, "still there")
	}
	require.Zero(t, h.sampler.open())
	_, err = io.Copy(io.Discard, conn)
	require.True(t, err == nil || errors.Is(err, net.ErrClosed) || strings.Contains(err.Error(), "reset"), err)
}
