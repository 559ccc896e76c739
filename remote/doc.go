// Package remote sends jobs to other machines when their budgets cannot be kept here:
// which worker gets a job, what is believed of each, what happens when one refuses, dies
// or falls silent, and how jobs and answers are written as bytes. How the bytes travel is
// a [Transport]'s business; package remote/natsremote has the one for NATS.
//
// A [Client] is the submitting end, a [Worker] the one where jobs run. Each attempt at a
// job is delivered at most once. A job that did not run comes back with an error that
// matches helix.ErrNotRun, one whose outcome is unknown with helix.ErrLost.
package remote
