package helix

import (
	"context"
	"fmt"
	"log/slog"
	"maps"
	"runtime"
	"slices"
	"strings"
	"time"
)

// stall notices that the queue stands still for ever: a job that waits for another, with a
// ctx that is not its own, keeps its slot, and if all slots are kept so no other job ever
// gets one. It is guarded by pool.mu. Until the queue has stood still for a second it costs
// a count for each grant and a look at a flag for each job that is queued.
type stall struct {
	alarm   alarm
	armed   bool
	granted uint64        // slots given to jobs in the queue, since ever
	seen    uint64        // of those, when the timer was set
	wait    time.Duration // until it fires
	told    bool          // once is enough
}

const (
	// stallFrom is how long no slot must have been granted to a queue for goroutines to be
	// looked at. As long as none is they are looked at half as often each time, down to
	// once in stallMost. With more than stallGoroutines none are: to look takes some µs each.
	stallFrom       = time.Second
	stallMost       = time.Minute
	stallGoroutines = 10_000
)

// watchForStall has the queue looked at, if it is not to be already. It requires p.mu.
func (p *pool) watchForStall() {
	s := &p.stall
	if s.armed || s.told {
		return
	}
	s.armed, s.seen = true, s.granted
	s.wait = max(s.wait, stallFrom)
	s.alarm.set(p.clock(), s.wait, p.lookForStall)
}

// stop has nothing looked at any more.
func (s *stall) stop() {
	s.told = true
	s.alarm.stop()
}

// lookForStall logs, once, which jobs the queue stands still for.
func (p *pool) lookForStall() {
	p.mu.Lock()
	s := &p.stall
	s.armed = false
	if p.queue.Empty() || s.told {
		p.mu.Unlock()
		return
	}
	if s.granted != s.seen {
		s.wait = stallFrom
		p.watchForStall()
		p.mu.Unlock()
		return
	}
	p.mu.Unlock()

	kept, by, router := 0, map[string]string(nil), (*Router)(nil)
	if int64(waitingInSlots()) >= p.busy() {
		kept, by, router = p.keptFor(p.whatWaits())
	}
	p.mu.Lock()
	stuck := s.granted == s.seen && router != nil && kept > 0 && int64(kept) >= p.busy() && !s.told
	if s.told = s.told || stuck; !stuck && !p.queue.Empty() {
		s.wait = min(2*s.wait, stallMost)
		p.watchForStall()
	}
	p.mu.Unlock()
	if stuck {
		router.logStall(by)
	}
}

// waitingInSlots counts goroutines that wait for a job inside a job that has a slot, or had
// one before it lent it, of any router. It does not keep others from running.
func waitingInSlots() (n int) {
	goroutines := runtime.NumGoroutine()
	if goroutines > stallGoroutines {
		return 0
	}
	all := make([]runtime.StackRecord, goroutines+goroutines/10+10)
	many, ok := runtime.GoroutineProfile(all)
	if !ok { // there are many more by now
		return 0
	}
	for i := range all[:many] {
		waits := false
		for _, pc := range all[i].Stack() {
			switch runtime.FuncForPC(pc - 1).Name() {
			case inHelix + "(*Ticket).await", inHelix + "awaitEnd":
				waits = true
			case inHelix + "(*pool).runClaimed", inHelix + "(*kind).runBatch":
				if waits {
					n++
				}
				waits = false
			}
		}
	}
	return n
}

const inHelix = "github.com/helixrouter/helix."

// whatWaits returns the kinds of the jobs in the queue, by the addresses of their tickets.
func (p *pool) whatWaits() map[string]*kind {
	waiting := map[string]*kind{}
	var all unstarted
	p.mu.Lock()
	p.queue.All(all.add)
	for _, t := range all.tickets { // under the lock, through which a ticket passes before it is reused
		waiting[address(t)] = t.kind
	}
	p.mu.Unlock()
	for _, f := range all.batches {
		f.batcher.mu.Lock()
		for _, t := range f.members {
			waiting[address(t)] = t.kind
		}
		f.batcher.mu.Unlock()
	}
	return waiting
}

// keptFor counts the slots that are kept by jobs that wait for one of those, which are told
// by the addresses of their tickets, and says which kinds wait for which.
func (p *pool) keptFor(waiting map[string]*kind) (kept int, by map[string]string, router *Router) {
	by = map[string]string{}
	own := address(p)
	for goroutine := range strings.SplitSeq(allStacks(), "\n\n") {
		slots, kinds, ticket := slotsKept(goroutine, own)
		inner := waiting[ticket]
		if inner == nil || slots == 0 {
			continue
		}
		kept += slots
		router = inner.router
		for name, k := range *router.kinds.Load() {
			if slices.Contains(kinds, address(k)) {
				by[name] = inner.name
			}
		}
	}
	return kept, by, router
}

// slotsKept reads the text of a goroutine's stack, the innermost call first: for the ticket it
// waits, the slots of that pool it keeps meanwhile, and the kinds of the jobs that it runs.
// All are addresses. A job has no other mark on its goroutine than the frame of what runs it,
// and this costs nothing until it is read.
func slotsKept(stack, pool string) (slots int, kinds []string, ticket string) {
	lent, slotSeen := false, false
	for line := range strings.Lines(stack) {
		call, ok := strings.CutPrefix(line, inHelix)
		if !ok {
			continue
		}
		name, arguments, _ := strings.Cut(call, "(0x")
		first := "0x" + arguments[:max(strings.IndexAny(arguments, "?,)"), 0)]
		switch name {
		case "(*Ticket).await", "awaitEnd":
			if ticket == "" {
				ticket = first
			}
		case "(*Ticket).submitNested", "(*slot).lending": // lent if nothing runs in it
			lent = slotSeen || len(kinds) == 0
			slotSeen = false
		case "(*kind).execute":
			kinds = append(kinds, first)
		case "(*pool).runClaimed", "(*kind).runBatch":
			if name == "(*kind).runBatch" {
				kinds = append(kinds, first)
			} else if first != pool {
				continue
			}
			if !lent {
				slots++
			}
			lent, slotSeen = false, true
		}
	}
	return slots, kinds, ticket
}

// address returns how an argument shows in the text of a stack.
func address(of any) string { return fmt.Sprintf("%p", of) }

// allStacks returns the text of the stacks of all goroutines. All stand still while it is written.
func allStacks() string {
	for size := 64 << 10; ; size *= 2 {
		text := make([]byte, size)
		if n := runtime.Stack(text, true); n < size {
			return string(text[:n])
		}
	}
}

// logStall says that those kinds' jobs wait for ever. A panic in the logger's handler is lost.
func (r *Router) logStall(by map[string]string) {
	defer func() { _ = recover() }()
	for _, name := range slices.Sorted(maps.Keys(by)) {
		r.cfg.Load().Logger.LogAttrs(context.Background(), slog.LevelError,
			"helix: all slots are held by jobs that wait for others with a ctx that is not the job's: pass on the ctx that Run was given",
			slog.String("kind", name), slog.String("waits_for", by[name]))
	}
}
