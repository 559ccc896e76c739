// Package e2e has the tests of what only shows from outside: the live page in a
// real browser, [github.com/helixrouter/helix/httpstats] below other people's
// routers and proxies, and its metrics as Prometheus reads them. It has no code
// of its own; it is a module apart so that the library need not require what
// these tests do. See README.md for how to run them.
package e2e
