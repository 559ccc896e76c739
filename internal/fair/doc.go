// Package fair divides a machine among kinds of work when their demand exceeds its capacity.
// It knows neither jobs nor routers, takes the time as an argument and starts no goroutine.
// All work is in seconds of CPU, all rates are in CPU seconds a second: cores.
//
// # Shares
//
// The capacity of the machine for jobs is C. Kind k has the demand d_k and the weight w_k. Its
// share is
//
//	s_k = min(d_k, w_k·λ),   with λ such that Σ s_k = C
//
// (weighted max-min fairness: Bertsekas and Gallager, "Data Networks", 6.5.2). No share is
// limited, λ = ∞, unless total demand exceeds C, by more than chance explains. Demand d_k is
// a moving mean of the offered work, refused work included, over 100 ms to 1 s. For random
// arrivals its variance is Σ d·work / (2·memory) (Campbell's theorem), so the memory is as
// long as a standard deviation of 5 % of the machine needs, and an overload begins two
// standard deviations above the capacity.
//
// # Capacity
//
// C is measured, as BBR finds a connection's bottleneck (Cardwell et al., "BBR:
// congestion-based congestion control", 2016): the work done while jobs wait all the time.
// Some CPU of every machine goes to things other than jobs: reading requests, refusing,
// collecting garbage, other processes. While no job waits nothing can be learned, and C is
// assumed to grow, up to all cores.
//
// # Virtual queues
//
// Each kind has a queue that is served at its guaranteed rate (generalised processor sharing:
// Parekh and Gallager, 1993): its share, or the rest that other kinds leave. The queue is
// two words, the rate and the time when it will be empty:
//
//	admission of work x:  empty = max(empty, now) + x/rate
//	turn of the next:     max(0, empty − now)
//
// A job that waits for a slot is refused for its share only if its kind is limited and the
// turn is longer than the rest of its budget. The queue drains with time; when a job has
// ended, it is corrected by actual minus predicted work.
//
// A queue may be ahead of its work by 200 ms, or by two usual jobs if those take longer: of what a
// kind did not use because by chance few of its jobs came, it may make up so much. Without it
// kinds that ask for little more than their share do not get it.
//
// The queues are served faster or slower, all in the same proportion, as it takes for the
// backlog to stay between two bounds. By Little's law s_k·budget/4 of a kind's work may
// wait. What is beyond that is to be done within a usual budget (20 to 200 ms), or the queue that
// the first moments of an overload leave behind would stand for seconds. And so long as
// those budgets allow, as much is to wait as keeps the slots from running empty by chance: capacity
// that is not used is never made up for, and those over their share alone would pay for it.
//
// # Hidden queue
//
// Jobs in sockets and in Go's run queue are visible only by the time that they have waited on
// arrival. While the shortest of these waits is long, a queue stands (Nichols and Jacobson,
// "Controlling queue delay", 2012), and a smaller part of C is handed out:
//
//	every 10 ms:  part = 0.92·part       while the shortest wait exceeds 0.3·budget
//	              part = 0.75·part       while it exceeds the budget
//	              part = part + 0.02     otherwise, at most, up to 1
//
// where budget is the tightest one.
package fair
