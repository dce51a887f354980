// Package awstest serves an embedded AWS for the time of a test, to processes that
// the test starts. Only tests call it; those that need no process use localaws
// itself, in memory.
package awstest

import (
	"testing"

	"github.com/sluicehq/sluice/internal/localaws"
)

// Serve starts an embedded AWS on loopback and returns it with its URL.
func Serve(t testing.TB, o localaws.Options) (server *localaws.Server, url string) {
	t.Helper()
	server = localaws.New(o)
	url, err := server.Listen("127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := server.Close(); err != nil {
			t.Error(err)
		}
	})
	return server, url
}
