package helixhttp

import (
	"bufio"
	"bytes"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// sink is a connection to which answers are written.
type sink struct {
	net.Conn
	answers int
}

func (s *sink) Write(b []byte) (int, error)      { s.answers++; return len(b), nil }
func (*sink) SetReadDeadline(time.Time) error    { return nil }
func (*sink) SetWriteDeadline(t time.Time) error { return nil }

// span is a part of the input.
type span struct{ from, to int }

// passThrough has a gate refuse all that it can of input, which comes in pieces of random
// length, while a server reads what is left as net/http does. It returns what the server was
// given, and where the refused requests are.
func passThrough(input []byte, rng *rand.Rand) (given []byte, refused []span) {
	at, start := 0, 0 // of input: what has been read, and where the latest piece begins
	var room []byte
	conn := &sink{}
	g := &gate{conn: conn, warn: func() {}}
	g.receive = func(b []byte) (int, error) {
		if at == len(input) {
			return 0, io.EOF
		}
		room, start = b, at
		most := len(b)
		switch rng.IntN(4) {
		case 0:
			most = min(most, 1+rng.IntN(60))
		case 1, 2: // as from a client that waits for answers
			if end := bytes.Index(input[at:], emptyLine); end >= 0 {
				most = min(most, end+len(emptyLine)+rng.IntN(2)*rng.IntN(40))
			}
		}
		n := copy(b[:most], input[at:])
		at += n
		return n, nil
	}
	g.refuse = func(h *head, send func([]byte) error) (bool, error) {
		if rng.IntN(4) == 0 {
			return false, nil
		}
		from := start + cap(room) - cap(h.route)
		refused = append(refused, span{from, min(from+h.size+int(h.body), len(input))})
		return true, send(nil)
	}
	g.state(http.StateNew)
	in := bufio.NewReader(io.TeeReader(g, writerFunc(func(b []byte) { given = append(given, b...) })))
	for {
		g.state(http.StateActive)
		req, err := http.ReadRequest(in)
		if err != nil {
			break
		}
		if req.Method == "CONNECT" || req.Header.Get("Upgrade") != "" {
			break // no longer HTTP
		}
		if rng.IntN(8) == 0 && in.Buffered() == 0 && req.ContentLength == 0 { // in the background
			one := make([]byte, 1)
			if n, _ := g.Read(one); n > 0 {
				given = append(given, one[0])
				in = bufio.NewReader(io.MultiReader(bytes.NewReader(one), io.TeeReader(g, writerFunc(func(b []byte) { given = append(given, b...) }))))
			}
		}
		if _, err := io.Copy(io.Discard, req.Body); err != nil || req.Close {
			break
		}
		g.state(http.StateIdle)
		if _, err := in.Peek(4); err != nil {
			break
		}
	}
	if _, err := io.Copy(io.Discard, in); err != nil { // as a handler that hijacked it would
		panic(err)
	}
	if conn.answers != len(refused) {
		panic("a refusal without an answer")
	}
	return given, refused
}

type writerFunc func([]byte)

func (f writerFunc) Write(b []byte) (int, error) { f(b); return len(b), nil }

// requestsIn is where the requests of input are, as net/http sees them.
func requestsIn(input []byte) (found []span) {
	from := &countingReader{r: bytes.NewReader(input)}
	in := bufio.NewReader(from)
	for {
		begin := from.n - in.Buffered()
		req, err := http.ReadRequest(in)
		if err != nil {
			return found
		}
		_, err = io.Copy(io.Discard, req.Body)
		found = append(found, span{begin, from.n - in.Buffered()})
		if err != nil {
			return found
		}
	}
}

type countingReader struct {
	r io.Reader
	n int
}

func (c *countingReader) Read(b []byte) (int, error) {
	n, err := c.r.Read(b)
	c.n += n
	return n, err
}

// requireHonest requires that the server got the input without the refused requests, and
// that net/http would have seen them where the gate did.
func requireHonest(t *testing.T, input []byte, seed uint64) (refused int) {
	t.Helper()
	given, gone := passThrough(input, rand.New(rand.NewPCG(seed, 1)))
	var left []byte
	at := 0
	for _, s := range gone {
		left = append(left, input[at:s.from]...)
		at = s.to
	}
	left = append(left, input[at:]...)
	require.Equal(t, string(left), string(given))
	known := requestsIn(input)
	for _, s := range gone {
		require.Contains(t, known, s, "%q", input[s.from:s.to])
	}
	return len(gone)
}

// hostile are pieces of which the fuzz test's inputs are made, among others.
var hostile = []string{
	"GET /a HTTP/1.1\r\nHost: h\r\n\r\n",
	"GET /a?b=c HTTP/1.1\r\nHost: h\r\nCookie: x\r\n\r\n",
	"POST /p HTTP/1.1\r\nHost: h\r\nContent-Length: 30\r\n\r\nGET /in-body HTTP/1.1\r\nHost: h",
	"POST /p HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\n\r\nabcde",
	"POST /p HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\nContent-Length: 5\r\n\r\nabcde",
	"POST /p HTTP/1.1\r\nHost: h\r\nContent-Length: +5\r\n\r\nabcde",
	"POST /p HTTP/1.1\r\nHost: h\r\nContent-Length : 5\r\n\r\nabcde",
	"POST /p HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nabcde\r\n0\r\n\r\n",
	"POST /p HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nabcde\r\n0\r\n\r\n",
	"POST /p HTTP/1.1\r\nHost: h\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\nabcde",
	"GET /ws HTTP/1.1\r\nHost: h\r\nConnection: Upgrade\r\nUpgrade: x\r\n\r\n",
	"GET /lf HTTP/1.1\nHost: h\n\n",
	"GET /mixed HTTP/1.1\r\nHost: h\n\r\n",
	"GET /cr HTTP/1.1\r\nX: a\rb\r\nHost: h\r\n\r\n",
	"GET /fold HTTP/1.1\r\nHost: h\r\nX: a\r\n b\r\nContent-Length:\r\n 5\r\n\r\nabcde",
	"GET /old HTTP/1.0\r\n\r\n",
	"GET /close HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n",
	"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
	"CONNECT h:1 HTTP/1.1\r\nHost: h:1\r\n\r\n",
	"GET http://h/abs HTTP/1.1\r\nHost: h\r\n\r\n",
	"OPTIONS * HTTP/1.1\r\nHost: h\r\n\r\n",
	"HEAD /a HTTP/1.1\r\nHost: h\r\n\r\n",
	"GET /long HTTP/1.1\r\nHost: h\r\nX: " + strings.Repeat("y", 5000) + "\r\n\r\n",
	"\r\n", "\n", "\x16\x03\x01", "G", "GET /", "\x00",
}

func TestRefusedRequestsAreGoneAndNothingElse(t *testing.T) {
	refused := 0
	for seed := range uint64(20_000) {
		rng := rand.New(rand.NewPCG(seed, 2))
		var input []byte
		for range 1 + rng.IntN(16) {
			piece := hostile[0]
			if rng.IntN(6) == 0 {
				piece = hostile[rng.IntN(len(hostile))]
			}
			input = append(input, piece...)
			if rng.IntN(40) == 0 {
				input[rng.IntN(len(input))] = byte(rng.IntN(256))
			}
		}
		refused += requireHonest(t, input, seed)
	}
	require.Greater(t, refused, 5_000, "or the test says nothing")
}

func FuzzGate(f *testing.F) {
	for i, piece := range hostile {
		f.Add([]byte(hostile[0]+piece+hostile[0]), uint64(i))
	}
	f.Fuzz(func(t *testing.T, input []byte, seed uint64) { requireHonest(t, input, seed) })
}

func TestHeads(t *testing.T) {
	for _, c := range []struct {
		text      string
		is        reading
		refusable bool
		route     string
		body      int64
	}{
		{"GET /a/b?q=1 HTTP/1.1\r\nHost: example.com:80\r\n\r\nmore", whole, true, "GET /a/b", 0},
		{"POST /a HTTP/1.1\r\nhost:h\r\nCONTENT-LENGTH:\t12 \r\nConnection: Keep-Alive\r\n\r\n", whole, true, "POST /a", 12},
		{"GET /a HTTP/1.1\r\nHost: h\r\n", partial, false, "", 0},
		{"HEAD /a HTTP/1.1\r\nHost: h\r\n\r\n", whole, false, "HEAD /a", 0},
		{"GET /a HTTP/1.1\r\n\r\n", whole, false, "GET /a", 0},
		{"GET /a HTTP/1.1\r\nHost: h\r\nHost: h\r\n\r\n", whole, false, "GET /a", 0},
		{"GET /a/../b HTTP/1.1\r\nHost: h\r\n\r\n", whole, false, "GET /a/../b", 0},
		{"GET /%61 HTTP/1.1\r\nHost: h\r\n\r\n", whole, false, "GET /%61", 0},
		{"GET //a HTTP/1.1\r\nHost: h\r\n\r\n", whole, false, "GET //a", 0},
		{"GET http://h/a HTTP/1.1\r\nHost: h\r\n\r\n", whole, false, "GET http://h/a", 0},
		{"GET  /a HTTP/1.1\r\nHost: h\r\n\r\n", opaque, false, "", 0},
		{"get /a HTTP/1.1\r\nHost: h\r\n\r\n", opaque, false, "", 0},
		{"GET /a HTTP/1.0\r\nHost: h\r\n\r\n", opaque, false, "", 0},
		{"GET /a HTTP/1.1\r\nHost: h\r\n: x\r\n\r\n", opaque, false, "", 0},
		{"GET /a HTTP/1.1\r\nHost: h\r\nContent-Length: 1234567890123456\r\n\r\n", opaque, false, "", 0},
		{"GET /a HTTP/1.1\r\nHost: h\r\nX: \x01\r\n\r\n", opaque, false, "", 0},
		{"GET /a HTTP/1.1\r\nHost: h\r\nX: caf\xc3\xa9\r\n\r\n", whole, true, "GET /a", 0},
	} {
		h, is := readHead([]byte(c.text))
		require.Equal(t, c.is, is, c.text)
		if is == whole {
			require.Equal(t, c.route, string(h.route))
			require.Equal(t, c.refusable, h.refusable, c.text)
			require.Equal(t, c.body, h.body)
		}
	}
}
