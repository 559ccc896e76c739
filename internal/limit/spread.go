package limit

import (
	"math"
	"math/bits"
)

// spread is a fading histogram of latencies, with four buckets an octave.
type spread struct {
	weights [buckets]float32
	total   float32
}

const (
	buckets = 27 * 4 // up to more than a minute; the first holds all below 1 µs
	// spreadCalls is how many calls a spread rests on, at most.
	spreadCalls = 512
)

// add takes in a latency in ns.
func (s *spread) add(took float64) {
	i, v := 0, uint64(took)>>8
	if v >= 4 {
		octave := bits.Len64(v) - 3
		i = min(octave*4+int(v>>octave&3)+1, buckets-1)
	}
	s.weights[i]++
	if s.total++; s.total > spreadCalls {
		s.fade(spreadCalls / 2)
	}
}

// fade has what was taken in count for that many calls at most.
func (s *spread) fade(calls float32) {
	if s.total == 0 || s.total <= calls {
		return
	}
	part := calls / s.total
	s.total = 0
	for i, w := range s.weights {
		s.weights[i] = w * part
		s.total += w * part
	}
}

// within returns the mean and the standard deviation of latencies below most, and how many calls they rest on.
func (s *spread) within(most float64) (mean, deviation, longest, calls float64) {
	var sum, squares float64
	for i, w := range s.weights {
		if w == 0 {
			continue
		}
		took := middle[i]
		if took >= most {
			break
		}
		calls += float64(w)
		longest = took
		sum += float64(w) * took
		squares += float64(w) * took * took
	}
	if calls == 0 {
		return 0, 0, 0, 0
	}
	mean = sum / calls
	return mean, math.Sqrt(max(0, squares/calls-mean*mean)), longest, calls
}

// middle is that of each bucket, in ns.
var middle = func() (m [buckets]float64) {
	m[0] = 512
	for i := 1; i < buckets; i++ {
		octave, quarter := (i-1)/4, (i-1)%4
		m[i] = math.Ldexp((4+float64(quarter)+.5)*256, octave)
	}
	return m
}()
