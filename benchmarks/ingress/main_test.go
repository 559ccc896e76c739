package main

import (
	"bufio"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// TestMain is the server where a test runs a point, since that runs this program again.
func TestMain(m *testing.M) {
	if what := os.Getenv(serverVar); what != "" {
		fail(serve(what))
		return
	}
	os.Exit(m.Run())
}

func TestEveryContenderServes(t *testing.T) {
	for _, name := range contenders {
		h, _, err := handler(name, mixes["even"])
		require.NoError(t, err)
		w := httptest.NewRecorder()
		h.ServeHTTP(w, httptest.NewRequest("GET", "/light", nil))
		want := 200
		if strings.HasPrefix(name, "refuse-all") {
			want = 503
		}
		require.Equal(t, want, w.Code, name)
	}
}

func TestAPointCountsEveryRequest(t *testing.T) {
	r, err := point("refuse-all", "even", mixes["even"], 0.3, 400*time.Millisecond)
	require.NoError(t, err)
	require.NotZero(t, r.sent)
	require.Equal(t, r.sent, r.refused+r.failed)
	require.Zero(t, r.goodput)
}

func TestWhatIsLateIsNotInBudget(t *testing.T) {
	entered := false
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { entered = true }))
	defer srv.Close()
	c := newClient(strings.TrimPrefix(srv.URL, "http://"), nil, 1)
	of := &class{path: "/", work: time.Second, budget: time.Minute}
	c.send(of, time.Now(), true)
	require.True(t, entered)
	c.send(of, time.Now().Add(-time.Hour), true) // was to be sent an hour ago
	c.send(of, time.Now(), false)
	require.EqualValues(t, 1, c.inBudget.Load())
	require.EqualValues(t, 1, c.late.Load())
	require.EqualValues(t, 1, c.lagged.Load(), "only because it was sent late")
	c.send(&class{path: "/", budget: 1}, time.Now(), true)
	require.EqualValues(t, 2, c.late.Load())
	require.EqualValues(t, 1, c.lagged.Load(), "it was sent in time")
	require.EqualValues(t, 3, c.sent.Load())
	require.EqualValues(t, time.Second, c.goodWork.Load())
}

func TestAnswersAreReadToTheirEnd(t *testing.T) {
	in := bufio.NewReader(strings.NewReader("HTTP/1.1 503 Service Unavailable\r\nContent-Length: 3\r\nX: y\r\n\r\nabc" +
		"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\nHTTP/1.1 200 OK\r\n\r\n"))
	for _, want := range []int{503, 200} {
		status, err := readAnswer(in)
		require.NoError(t, err)
		require.Equal(t, want, status)
	}
	_, err := readAnswer(in)
	require.ErrorIs(t, err, errAnswer)
}

func TestBadFlags(t *testing.T) {
	for _, c := range [][2]string{{"-mix", "none"}, {"-loads", "1,x"}, {"-loads", "NaN"}, {"-only", "nobody"}, {"-for", "0s"}} {
		err := run([]string{c[0], c[1]})
		require.ErrorContains(t, err, c[0])
	}
}

// What finds no connection waits in the client, and counts from when it was to be sent.
func TestConnectionsAreBounded(t *testing.T) {
	var open, most atomic.Int64
	srv := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		most.Store(max(most.Load(), open.Load()))
	}))
	srv.Config.ConnState = func(_ net.Conn, s http.ConnState) {
		switch s {
		case http.StateNew:
			open.Add(1)
		case http.StateClosed:
			open.Add(-1)
		}
	}
	srv.Start()
	defer srv.Close()
	c := newClient(strings.TrimPrefix(srv.URL, "http://"), nil, 1)
	c.open = make(chan struct{}, 3)
	var pending sync.WaitGroup
	for range 50 {
		pending.Go(func() { c.send(&class{path: "/", budget: time.Minute}, time.Now(), true) })
	}
	pending.Wait()
	require.EqualValues(t, 50, c.inBudget.Load())
	require.LessOrEqual(t, most.Load(), int64(3))
	require.LessOrEqual(t, len(c.free), 3)
	for _, conn := range c.free {
		require.NoError(t, conn.Close())
	}
}
