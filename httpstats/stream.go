package httpstats

import (
	"bytes"
	"encoding/json"
	"net"
	"net/http"
	"strconv"
	"time"
)

// hello is the first event of a stream: the data that does not change from tick to tick.
type hello struct {
	Name         string   `json:"name"`
	Policy       string   `json:"policy"`
	Version      string   `json:"version"`
	StartedMs    int64    `json:"started_ms"` // a new one means that the service was restarted
	Slots        int      `json:"slots"`
	Strategies   []string `json:"strategies"`
	Burst        bool     `json:"burst"`
	ConfigWrites bool     `json:"config_writes"`
}

func (h *Handler) hello() hello {
	s := h.router.Stats()
	v := hello{
		Name:         h.options.name,
		Policy:       policyName(h.router.Config().Policy),
		Version:      h.version,
		StartedMs:    h.started.UnixMilli(),
		Slots:        s.Pressure.Slots,
		Burst:        h.options.burst != nil,
		ConfigWrites: h.options.configWrites,
	}
	for _, routed := range s.RoutedByStrategy {
		v.Strategies = append(v.Strategies, routed.Strategy)
	}
	return v
}

// serveStream sends server-sent events: hello, the history (all points, or those after
// Last-Event-ID), then ticks and decisions, until the client leaves, reads nothing for too
// long, or Close. Ticks also keep idle connections open.
func (h *Handler) serveStream(w http.ResponseWriter, r *http.Request) {
	last, bad := lastEventID(r)
	if bad != nil {
		fail(w, true, http.StatusBadRequest, *bad)
		return
	}
	if r.Method == http.MethodHead {
		streamHeaders(w, r)
		return
	}
	out := frameWriter{ResponseController: http.NewResponseController(w), w: w, timeout: h.options.frameTimeout}
	if err := out.extend(); err != nil {
		fail(w, true, http.StatusNotImplemented, failure{
			Error: "no stream: some middleware hides the connection (its ResponseWriter needs Unwrap, see http.ResponseController)",
		})
		return
	}

	st, b, refused := h.sampler.subscribe(last, clientAddress(r))
	if st == nil {
		w.Header().Set("Retry-After", "5")
		fail(w, true, http.StatusServiceUnavailable, failure{Error: "no stream: " + refused})
		return
	}
	defer h.sampler.unsubscribe(st)
	streamHeaders(w, r)
	if err := h.sendBacklog(&out, b); err != nil {
		return
	}
	for {
		select {
		case frame := <-st.frames:
			if err := out.send(frame); err != nil {
				return
			}
		case <-st.gone:
			return
		case <-r.Context().Done():
			return
		}
	}
}

// clientAddress returns the address of a request's client, without its port; "" if there is
// none, as behind a socket file.
func clientAddress(r *http.Request) string {
	host, _, err := net.SplitHostPort(r.RemoteAddr)
	if err != nil {
		return ""
	}
	return host
}

func streamHeaders(w http.ResponseWriter, r *http.Request) {
	header := w.Header()
	header.Set("Content-Type", "text/event-stream")
	header.Set("Cache-Control", "no-store, no-transform") // a compressing proxy would delay events
	header.Set("X-Accel-Buffering", "no")                 // nginx would delay events
	if r.ProtoMajor == 1 {
		// The connection's write deadline outlives the stream.
		header.Set("Connection", "close")
	}
}

// lastEventID returns where to resume. The browser sets the header, so errors in it are
// ignored; the parameter is for clients that cannot set a header.
func lastEventID(r *http.Request) (uint64, *failure) {
	if id, err := strconv.ParseUint(r.Header.Get("Last-Event-ID"), 10, 64); err == nil {
		return id, nil
	}
	q, bad := parseQuery(r, "last_id")
	if bad != nil || q["last_id"] == "" {
		return 0, bad
	}
	id, err := strconv.ParseUint(q["last_id"], 10, 64)
	if err != nil {
		return 0, &failure{Error: "last_id must be the id of an event", Field: "last_id", Value: q["last_id"]}
	}
	return id, nil
}

// sendBacklog writes the history in chunks, each with its own deadline, so that slow clients
// get it too. It never holds the whole history in one buffer.
func (h *Handler) sendBacklog(out *frameWriter, b backlog) error {
	intro, err := json.Marshal(h.hello())
	if err != nil {
		return err
	}
	step, err := json.Marshal(number(h.options.step.Seconds()))
	if err != nil {
		return err
	}
	var chunk bytes.Buffer
	chunk.WriteString("retry: 1000\n\nevent: hello\ndata: ")
	chunk.Write(intro)
	chunk.WriteString("\n\nevent: history\ndata: {\"step_s\":")
	chunk.Write(step)
	chunk.WriteString(",\"points\":[")
	for i, p := range b.points {
		if i > 0 {
			chunk.WriteByte(',')
		}
		chunk.Write(p)
		if chunk.Len() >= 16<<10 {
			if err := out.send(chunk.Bytes()); err != nil {
				return err
			}
			chunk.Reset()
		}
	}
	chunk.WriteString("]}\n\n")
	if len(b.recent) > 0 {
		chunk.Write(decisionsFrame(b.recent))
	}
	return out.send(chunk.Bytes())
}

// frameWriter writes to a client that must read each frame within timeout. Otherwise the write
// deadline breaks the connection, which frees its resources.
type frameWriter struct {
	*http.ResponseController
	w       http.ResponseWriter
	timeout time.Duration
}

// extend starts the time for the next frame.
func (f *frameWriter) extend() error {
	return f.SetWriteDeadline(time.Now().Add(f.timeout))
}

func (f *frameWriter) send(frame []byte) error {
	if err := f.extend(); err != nil {
		return err
	}
	if _, err := f.w.Write(frame); err != nil {
		return err
	}
	return f.Flush()
}
