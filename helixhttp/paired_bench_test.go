package helixhttp_test

import (
	"io"
	"net"
	"net/http"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/helixrouter/helix/helixhttp"
	"github.com/stretchr/testify/require"
)

// BenchmarkListenerCost compares a server behind the listener with a plain one, in turns of
// some milliseconds, so that what disturbs the machine disturbs both. It reports the median
// of how much longer the same requests take, in percent; the target is 3 % at most.
//
//	go test -run '^$' -bench ListenerCost -benchtime 1000x ./helixhttp
func BenchmarkListenerCost(b *testing.B) {
	plain, behind := newCrowd(b, false), newCrowd(b, true)
	more := make([]float64, 0, b.N)
	for i := 0; b.Loop(); i++ {
		var took [2]time.Duration
		turns := []int{0, 1, 1, 0} // neither is always the first
		if i%2 == 1 {
			turns = []int{1, 0, 0, 1}
		}
		for _, which := range turns {
			took[which] += [2]*crowd{plain, behind}[which].ask(10)
		}
		more = append(more, 100*(float64(took[1])/float64(took[0])-1))
	}
	slices.Sort(more)
	b.ReportMetric(more[len(more)/2], "%more")
	b.ReportMetric(more[len(more)/4], "%more-q1")
	b.ReportMetric(more[len(more)*3/4], "%more-q3")
}

// crowd are clients with a kept connection each, who do as little as possible themselves.
type crowd struct {
	clients []net.Conn
	length  int // of an answer
}

func newCrowd(b *testing.B, behind bool) *crowd {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(b, err)
	addr := l.Addr().String()
	srv := &http.Server{Handler: answering("ok")}
	if behind {
		l, srv.ConnContext = helixhttp.NewListener(l), helixhttp.ConnContext
	}
	go func() { _ = srv.Serve(l) }()
	b.Cleanup(func() { _ = srv.Close() })
	c := &crowd{}
	for range 8 {
		client, err := net.Dial("tcp", addr)
		require.NoError(b, err)
		b.Cleanup(func() { _ = client.Close() })
		c.clients = append(c.clients, client)
	}
	_, err = io.WriteString(c.clients[0], request)
	require.NoError(b, err)
	answer := make([]byte, 1024)
	c.length, err = c.clients[0].Read(answer)
	require.NoError(b, err)
	require.Contains(b, string(answer[:c.length]), "200 OK")
	return c
}

const request = "GET / HTTP/1.1\r\nHost: h\r\n\r\n"

// ask has each client send so many requests, one after the other's answer.
func (c *crowd) ask(each int) time.Duration {
	var asking sync.WaitGroup
	start := time.Now()
	for _, client := range c.clients {
		asking.Go(func() {
			answer := make([]byte, c.length) // all are equal except for their time
			for range each {
				if _, err := io.WriteString(client, request); err != nil {
					panic(err)
				}
				if _, err := io.ReadFull(client, answer); err != nil {
					panic(err)
				}
			}
		})
	}
	asking.Wait()
	return time.Since(start)
}
