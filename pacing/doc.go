// Package pacing is the quota arithmetic: what a request will cost, when the
// next one may start, and what throttles teach. It is pure and synchronous: it
// reads no clock, takes no lock, starts no goroutine and does no I/O, so every
// time is an argument and the caller serialises. The worker's dispatcher calls
// it; it imports the standard library only.
//
// Amazon says what a request is charged, not the shape of the limit that the
// charge meets: it may be a rolling minute, one by the clock, or a bucket of
// any size. A [Ledger] mirrors all of them for requests and for tokens
// (replica.go), permits what the strictest that still stand would permit, and
// learns from accepts which do not stand, by exploring, rarely, beyond what is
// safe (evidence.go). A throttle is followed by one probe at a time
// (recovery.go); throttles that no shape explains are other users of the quota,
// and cut its share (share.go) towards what two throttles say was ours
// (finding.go); a rolling minute that admitted nothing for long is that of a quota
// that was cut (reopening.go). An [Estimator] learns what requests cost
// (estimate.go). A [Route] joins ledger and estimator with a [Gate], which says
// whether to try at all.
package pacing
