package httpstats

import (
	"bytes"
	"encoding/json"
	"strconv"
	"sync"
	"time"

	"github.com/helixrouter/helix"
)

const (
	historyPoints = 900 // a quarter of an hour of seconds

	// New decisions are read every quarter of a second. 20 a second are shown, and all while
	// there are few: the unused allowance is saved. The buffer holds all samples of the
	// router meanwhile, because the first of a flood would hide rare ones.
	decisionBuffer  = 768
	decisionsShown  = 5
	decisionsSaved  = 256
	recentDecisions = 256 // kept for pages that are opened later

	// Frames that may wait for a slow client. All streams share their memory. Decisions are
	// dropped well before ticks.
	streamBuffer          = 32
	streamBufferDecisions = 8

	// streamTurn is how long a stream keeps its place while others are refused. A client that
	// reads reconnects and resumes; one that is stalled behind full socket buffers is gone.
	streamTurn = 10 * time.Second
)

// sampler is the one goroutine of a Handler. Once a step it reads the router, adds a point to
// the history, and sends the same tick to every stream, encoded once.
type sampler struct {
	router   *helix.Router
	document func(time.Time, helix.Stats) document
	options  options
	quit     chan struct{} // closed by close
	done     chan struct{} // closed when the goroutine has ended
	windows  kindLatencies // of that goroutine alone

	mu      sync.Mutex // guards all below; nothing is marshalled or written under it
	closed  bool
	streams map[*stream]struct{}
	ring    [historyPoints][]byte   // JSON of points; that of id i is at i % historyPoints
	first   uint64                  // id of the oldest point
	next    uint64                  // id of the next point
	recent  [][]byte                // JSON of decisions, oldest first
	lately  map[string]pointLatency // by kind, as of the latest step; never written to
}

// stream is what one open api/stream gets.
type stream struct {
	client string        // address, "" if not known
	since  time.Time     // when it was opened
	frames chan []byte   // whole SSE events, not to be written to
	gone   chan struct{} // closed by the sampler: the stream is to end
}

func newSampler(r *helix.Router, doc func(time.Time, helix.Stats) document, o options) *sampler {
	now := time.Now()
	// Ids start at the present time: at most one a second, those of an earlier Handler are
	// lower. So a page that resumes with an id from before a restart gets all points.
	first := uint64(max(1, now.Unix()))
	s := &sampler{
		router:   r,
		document: doc,
		options:  o,
		quit:     make(chan struct{}),
		done:     make(chan struct{}),
		windows:  make(kindLatencies),
		lately:   make(map[string]pointLatency),
		streams:  make(map[*stream]struct{}),
		first:    first,
		next:     first,
	}
	// Watch from here on, not from the goroutine's start.
	events, stopWatching := r.Watch(decisionBuffer)
	go s.run(readRouter(r, now), events, stopWatching)
	return s
}

func (s *sampler) run(before reading, events <-chan helix.Event, stopWatching func()) {
	defer close(s.done)
	defer stopWatching()
	step, flush := time.NewTicker(s.options.step), time.NewTicker(s.options.flush)
	defer step.Stop()
	defer flush.Stop()
	show := decisionsSaved
	for turn := 0; ; turn++ {
		select {
		case <-s.quit:
			return
		case <-step.C:
			now := readRouter(s.router, time.Now())
			s.tick(&before, &now)
			before = now
		case <-flush.C:
			var seen []helix.Event
			show = min(show+decisionsShown, decisionsSaved)
			if seen, events = drain(events); len(seen) > 0 {
				seen = sample(seen, show, turn)
				show -= len(seen)
				s.decisions(seen)
			}
		}
	}
}

// drain returns the events in the channel, and the channel, or nil if it is closed.
func drain(events <-chan helix.Event) (seen []helix.Event, still <-chan helix.Event) {
	for range decisionBuffer {
		select {
		case e, ok := <-events:
			if !ok {
				return seen, nil
			}
			seen = append(seen, e)
		default:
			return seen, events
		}
	}
	return seen, events
}

// tick ends a step.
func (s *sampler) tick(before, now *reading) {
	s.mu.Lock()
	id := s.next // only this goroutine changes it
	s.mu.Unlock()

	d := s.document(now.at, now.stats)
	d.KindLatency = s.windows.observe(before, now, s.options.step)
	p, errPoint := json.Marshal(now.since(before, id))
	doc, errDoc := json.Marshal(d)
	if errPoint != nil || errDoc != nil {
		return // not reached: all their numbers have a JSON form
	}
	var frame bytes.Buffer
	frame.Grow(len(p) + len(doc) + 64)
	frame.WriteString("id: ")
	frame.WriteString(strconv.FormatUint(id, 10))
	frame.WriteString("\nevent: tick\ndata: {\"point\":")
	frame.Write(p)
	frame.WriteString(",\"stats\":")
	frame.Write(doc)
	frame.WriteString("}\n\n")

	s.mu.Lock()
	defer s.mu.Unlock()
	s.lately = d.KindLatency
	s.ring[id%historyPoints] = p
	s.next = id + 1
	if s.next-s.first > historyPoints {
		s.first = s.next - historyPoints
	}
	for st := range s.streams {
		select {
		case st.frames <- frame.Bytes():
		default: // the client has read nothing for half a minute
			s.evict(st)
		}
	}
}

// kindLatency returns the latest latencies of the kinds. The map must not be changed.
func (s *sampler) kindLatency() map[string]pointLatency {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.lately
}

// decisions sends those decisions to the streams.
func (s *sampler) decisions(events []helix.Event) {
	list := make([][]byte, 0, len(events))
	for i := range events {
		if d, err := json.Marshal(newDecision(&events[i])); err == nil {
			list = append(list, d)
		}
	}
	frame := decisionsFrame(list)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.recent = append(s.recent, list...)
	if extra := len(s.recent) - recentDecisions; extra > 0 {
		s.recent = append([][]byte(nil), s.recent[extra:]...)
	}
	for st := range s.streams {
		// Only this goroutine sends, so the length can only have shrunk.
		if len(st.frames) < streamBufferDecisions {
			st.frames <- frame
		}
	}
}

// decisionsFrame returns the SSE event that carries those decisions.
func decisionsFrame(list [][]byte) []byte {
	frame := append([]byte("event: decisions\ndata: ["), bytes.Join(list, []byte(","))...)
	return append(frame, "]\n\n"...)
}

// evict ends a stream. It requires s.mu.
func (s *sampler) evict(st *stream) {
	delete(s.streams, st)
	close(st.gone)
}

// backlog has the first data of a stream.
type backlog struct {
	points [][]byte
	recent [][]byte // decisions; a page may have some of them
}

// subscribe adds a stream for a client and returns, as of the same moment, the points
// after the one with id last; an id that was never given out counts as none. It
// returns nil, and why, if there can be no further stream.
func (s *sampler) subscribe(last uint64, client string) (*stream, backlog, string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return nil, backlog{}, "closed"
	}
	now := time.Now()
	if refused := s.makeRoom(now, client); refused != "" {
		return nil, backlog{}, refused
	}
	st := &stream{client: client, since: now, frames: make(chan []byte, streamBuffer), gone: make(chan struct{})}
	s.streams[st] = struct{}{}
	b := backlog{recent: s.recent}
	from := s.first
	if last >= s.first && last < s.next {
		from = last + 1
	}
	b.points = make([][]byte, 0, s.next-from)
	for id := from; id < s.next; id++ {
		b.points = append(b.points, s.ring[id%historyPoints])
	}
	return st, b, ""
}

// makeRoom ends the oldest stream if the client, or all clients together, are at their limit
// and that stream has been open for streamTurn. It returns why there is no room. It requires
// s.mu.
func (s *sampler) makeRoom(now time.Time, client string) string {
	var own, all *stream // the oldest
	n := 0
	for st := range s.streams {
		if all == nil || st.since.Before(all.since) {
			all = st
		}
		if st.client != client || client == "" {
			continue
		}
		n++
		if own == nil || st.since.Before(own.since) {
			own = st
		}
	}
	var oldest *stream
	switch {
	case n >= (s.options.streamLimit+1)/2:
		oldest = own
	case len(s.streams) >= s.options.streamLimit:
		oldest = all
	default:
		return ""
	}
	if now.Sub(oldest.since) < streamTurn {
		return "too many open streams"
	}
	s.evict(oldest)
	return ""
}

func (s *sampler) unsubscribe(st *stream) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, open := s.streams[st]; open {
		s.evict(st)
	}
}

// close ends every stream and the goroutine, and waits for the latter.
func (s *sampler) close() {
	s.mu.Lock()
	if !s.closed {
		s.closed = true
		close(s.quit)
		for st := range s.streams {
			s.evict(st)
		}
	}
	s.mu.Unlock()
	<-s.done
}
