package helixhttp

import (
	"math"
	"sync/atomic"
	"time"

	"github.com/helixrouter/helix/internal/num"
)

// exchange is the latest request of a connection, and its answer. Times are nanoseconds since
// epoch; 0 = none. It is safe for concurrent use.
type exchange struct {
	at      atomic.Int64 // when its latest data reached the machine. Written by the reader
	waited  atomic.Int64 // ns from then until that was read. Written by the reader
	ran     atomic.Int64 // when its handler returned, until the answer is written
	taken   atomic.Bool  // by a handler that hijacked the connection: what is written is no answer
	answers *answerTime
}

// epoch is what the times of exchanges are counted from, by the monotonic clock.
var epoch = time.Now()

func (x *exchange) arrived() time.Time {
	at := x.at.Load()
	if at == 0 {
		return time.Time{}
	}
	return epoch.Add(time.Duration(at))
}

// longestAge bounds the wait of data in the kernel: a longer time shows that the clock was set.
const longestAge = time.Minute

// arrives records that n bytes of at most room were read now, and how long ago they arrived.
//
// A read of one byte is net/http's background read while a handler runs: it belongs to the
// next request, and more of that follows.
func (x *exchange) arrives(n, room int, age time.Duration) {
	if n == 0 || room == 1 {
		return
	}
	if age < 0 || age > longestAge {
		age = 0
	}
	at := time.Since(epoch) - age // below 0 in a testing/synctest bubble
	if at == 0 {
		at = 1
	}
	x.at.Store(int64(at))
	x.waited.Store(int64(age))
	if x.ran.Load() != 0 { // its answer was written before the handler returned
		x.ran.Store(0)
	}
}

// returned records that the handler has returned.
func (x *exchange) returned() {
	if !x.taken.Load() {
		x.ran.Store(int64(time.Since(epoch)))
	}
}

// deadline records that both deadlines were set. net/http removes both at once only when a
// handler hijacks the connection.
func (x *exchange) deadline(at time.Time) {
	if at.IsZero() {
		x.taken.Store(true)
	}
}

// answering records that data is written now.
func (x *exchange) answering() {
	if ran := x.ran.Load(); ran != 0 && x.ran.CompareAndSwap(ran, 0) {
		x.answers.observe(time.Since(epoch) - time.Duration(ran))
	}
}

// answerTime learns how long an answer waits to be written after its handler has returned:
// under load other goroutines run in between. It keeps the mean and the mean deviation,
// like a retransmission timer (Jacobson, "Congestion avoidance and control", 1988). It is
// safe for concurrent use; of simultaneous observations some are lost.
type answerTime struct{ mean, deviation num.Float } // ns

const (
	// answerGain is the weight of the latest observation.
	answerGain = 1. / 32
	// mostAnswer bounds an observation.
	mostAnswer = 100 * time.Millisecond
	// answerPart is the part of a budget that is left for the answer at most.
	answerPart = 0.25
)

func (a *answerTime) observe(took time.Duration) {
	mean, deviation := a.mean.Load(), a.deviation.Load()
	off := float64(min(max(took, 1), mostAnswer)) - mean
	if mean == 0 {
		a.mean.Store(off)
		return
	}
	a.mean.Store(mean + answerGain*off)
	a.deviation.Store(deviation + answerGain*(math.Abs(off)-deviation))
}

// of returns the part of a budget that the answer takes.
func (a *answerTime) of(budget time.Duration) time.Duration {
	return time.Duration(min(a.mean.Load()+4*a.deviation.Load(), answerPart*float64(budget)))
}
