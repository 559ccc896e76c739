// Package fair divides a machine among kinds of work when they ask for more than there is.
// It knows neither jobs nor routers, is given the time and starts nothing. All work is in
// seconds of CPU, all rates are CPU seconds a second: cores.
//
// # Shares
//
// The machine can do C for jobs. Kind k asks for d_k and has the weight w_k. Its share is
//
//	s_k = min(d_k, w_k·λ),   with λ such that Σ s_k = 0.99·C
//
// (weighted max-min fairness: Bertsekas and Gallager, "Data Networks", 6.5.2). No share is
// limited, λ = ∞, unless all ask for more than there is, and for more than chance explains.
// Demand d_k is a moving mean of the work that was offered, refused work included, over
// 100 ms to 1 s: of jobs that come at random its variance is Σ d·work / (2·memory)
// (Campbell's theorem), so the memory is as long as it takes for a standard deviation of
// 5 % of the machine, and an overload begins at two of them above the capacity.
//
// # Capacity
//
// C is measured, as BBR finds a connection's bottleneck (Cardwell et al., "BBR:
// congestion-based congestion control", 2016): the work done while jobs wait all the time.
// A part of every machine goes into what is not a job: reading requests, refusing,
// collecting garbage, other processes. While none waits nothing can be learned, and C is
// taken to grow, up to all cores.
//
// # Virtual queues
//
// Each kind has a queue that is served at the rate it is guaranteed (generalised processor
// sharing: Parekh and Gallager, 1993): its share, or what the others leave. The queue is
// two words, the rate and the time when it will be empty:
//
//	admission of work x:  empty = max(empty, now) + x/rate
//	turn of the next:     max(0, empty − now)
//
// A job that waits for a slot is refused for its share only if its kind is limited and the
// turn is longer than what is left of its budget. The queue drains with time; when a job
// has ended, what it took more or less than was thought is put right.
//
// Of what is handed out, so much is held back that the backlog beyond what may wait is done
// within 200 ms. By Little's law s_k·budget/4 of a kind's work may wait. Only kinds over
// their share pay for it. Otherwise the queue that the first moments of an overload leave
// behind would stand for seconds.
//
// # Hidden queue
//
// What waits in sockets and in Go's run queue is seen only by how long jobs have been on
// their way when they come. While the shortest of these waits is long, a queue stands
// (Nichols and Jacobson, "Controlling queue delay", 2012), and less is handed out.
package fair
