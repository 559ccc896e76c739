package main

import (
	"runtime"
	"time"

	"github.com/helixrouter/helix/benchmarks/internal/pace"
)

// minSleep bounds how often the dispatcher wakes: it costs some µs of CPU.
const minSleep = 100 * time.Microsecond

// residentEvery is how often the resident memory is looked at.
const residentEvery = 50 * time.Millisecond

// dispatcher is what the generator of arrivals measured of itself and of the
// process.
type dispatcher struct {
	cpu        time.Duration // spent making goroutines
	goroutines int           // the most seen
	resident   int64         // bytes, the most seen
	idle       int64         // resident bytes before the first arrival
	process    time.Duration // CPU of the whole process
	wall       time.Duration // all of the time that cpu and process are of
}

// dispatch starts every job's goroutine at its time, or as soon after it as
// this goroutine gets to run: then all that are due, in one burst. It sleeps
// in between, so that it takes no CPU from the contender except for making goroutines, which
// it measures.
func dispatch(p *point) *dispatcher {
	d := &dispatcher{idle: residentBytes(), process: -processCPU()}
	pacer := pace.New()
	defer pacer.Close()
	looked := time.Now()
	for i := 0; i < len(p.jobs); {
		if wait := time.Duration(p.jobs[i].at - p.now()); wait > 0 {
			pacer.Sleep(max(wait, minSleep))
			continue
		}
		i = d.burst(p, i)
		d.goroutines = max(d.goroutines, runtime.NumGoroutine())
		if time.Since(looked) > residentEvery {
			looked = time.Now()
			d.resident = max(d.resident, residentBytes())
		}
	}
	return d
}

// burst starts all jobs from the i-th on that are due, and returns the next.
func (d *dispatcher) burst(p *point, i int) int {
	// The CPU time is the thread's, so stay on it; but only during the burst,
	// since a locked goroutine that sleeps costs two switches of threads.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	before := threadCPU()
	now := p.now()
	for n := 1; i < len(p.jobs) && p.jobs[i].at <= now; n++ {
		j := &p.jobs[i]
		j.dispatched = now
		go p.serve(j)
		i++
		if n%32 == 0 {
			now = p.now()
		}
	}
	d.cpu += threadCPU() - before
	return i
}

// end takes the last measurements. A dispatcher that was starved comes here
// well after the horizon.
func (d *dispatcher) end(p *point) {
	d.wall = time.Duration(p.now())
	d.resident = max(d.resident, residentBytes())
	d.process += processCPU()
}
