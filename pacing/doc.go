// Package pacing is the quota arithmetic: what a request will cost, when the
// next one may start, and what throttles teach. It is pure and synchronous: it
// reads no clock, takes no lock, starts no goroutine and does no I/O, so every
// time is an argument and the caller serialises. The worker's dispatcher calls
// it; it imports the standard library only.
//
// Amazon says what a request is charged, not the shape of the limit that the
// charge meets: it may be a rolling minute or a bucket of any size. A [Ledger]
// keeps one replica of each for requests and for tokens (replica.go), permits
// what the strictest shape that still stands would permit, and learns from
// accepts and throttles which shapes do not stand (evidence.go). Throttles that
// no shape explains are other users of the quota: they cut its share
// (share.go). An [Estimator] learns what requests cost (estimate.go).
package pacing
