// Package remote sends jobs to other machines when their budgets cannot be kept here. It has the
// choice of a worker, the state of each worker, the handling of workers that refuse, die or
// fall silent, and the encoding of jobs and answers. A [Transport] carries the bytes; package
// remote/natsremote has the one for NATS.
//
// A [Client] is the submitting end, a [Worker] the one where jobs run. Each attempt at a
// job is delivered at most once. A job that did not run comes back with an error that
// matches helix.ErrNotRun, one whose outcome is unknown with helix.ErrLost.
package remote
