package main

import (
	"cmp"
	"math"
	"math/rand/v2"
	"slices"
)

// The shape of -bursts: multiples of the load, and times in seconds.
const (
	calmLoad   = 0.6
	burstLoad  = 8.0
	burstEvery = 1.0
	burstFrom  = 0.4 // into every second
	burstTo    = 0.6
)

// segment is a stretch of time, in seconds from the start, in which rates and
// costs stay the same.
type segment struct {
	from, to float64
	load     float64
	burst    bool
	shifted  bool // the class of -shift costs shiftFactor times as much
}

// shiftFactor is how much more a job of the class of -shift costs after half of
// the measured time.
const shiftFactor = 3.0

// segments cuts the time of a point where its rates or costs change, and at
// the ends of the measured time.
func (s *pointSpec) segments() []segment {
	middle := math.Inf(1)
	if s.Shift != "" {
		middle = s.Warmup + s.Seconds/2
	}
	cuts := []float64{0, s.Warmup, s.Warmup + s.Seconds, s.horizon()}
	if s.Shift != "" {
		cuts = append(cuts, middle)
	}
	if s.Bursts {
		for second := 0.0; second < s.horizon(); second += burstEvery {
			cuts = append(cuts, second+burstFrom, second+burstTo)
		}
	}
	slices.Sort(cuts)
	var all []segment
	for i := 1; i < len(cuts) && cuts[i] <= s.horizon(); i++ {
		if cuts[i] == cuts[i-1] {
			continue
		}
		g := segment{from: cuts[i-1], to: cuts[i], load: s.Load}
		mid := (g.from + g.to) / 2
		g.shifted = mid > middle
		if s.Bursts {
			into := math.Mod(mid, burstEvery)
			g.burst = into > burstFrom && into < burstTo
			g.load *= calmLoad
			if g.burst {
				g.load *= burstLoad / calmLoad
			}
		}
		all = append(all, g)
	}
	return all
}

// measured reports whether arrivals in the segment count.
func (s *pointSpec) measured(g segment) bool {
	return g.from >= s.Warmup && g.to <= s.Warmup+s.Seconds
}

// arrival is one job to come.
type arrival struct {
	at      int64 // ns from the start
	segment uint16
	class   uint8
	factor  float32 // true cost over that of the class
	lie     float32 // hinted cost over that of the class
}

// lieLow and lieHigh bound the factor by which -hint-error distorts hints.
const lieLow, lieHigh = 0.2, 5.0

// arrivals draws the Poisson arrivals of a point, ordered by time. The same
// spec gives the same arrivals, whatever the machine and the contender. Every
// class has its own random numbers, so that adding one leaves the others alone.
func (s *pointSpec) arrivals() []arrival {
	var all []arrival
	segments := s.segments()
	for i := range s.Mix.Classes {
		c := &s.Mix.Classes[i]
		random := rand.New(rand.NewPCG(s.Seed, uint64(i)))
		lies := rand.New(rand.NewPCG(s.Seed, 1<<32+uint64(i)))
		rate := c.rate(s.cores())
		for k, g := range segments {
			// A Poisson process has no memory: each segment may start afresh.
			for at := g.from + random.ExpFloat64()/(rate*g.load); at < g.to; at += random.ExpFloat64() / (rate * g.load) {
				a := arrival{at: int64(at * 1e9), segment: uint16(k), class: uint8(i), factor: 1, lie: 1}
				if g.shifted && c.Name == s.Shift {
					a.factor = shiftFactor
				}
				if s.HintError {
					a.lie = float32(lieLow * math.Pow(lieHigh/lieLow, lies.Float64()))
				}
				all = append(all, a)
			}
		}
	}
	slices.SortStableFunc(all, func(a, b arrival) int { return cmp.Compare(a.at, b.at) })
	return all
}
