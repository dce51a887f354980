// Command bedrocksim serves the Bedrock simulator alone, beside LocalStack or
// any other emulator that has no Bedrock. It is the simulator of
// internal/localaws with a listener, and nothing more.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/signal"
	"strconv"
	"syscall"
	"time"

	"github.com/sluicehq/sluice/internal/localaws/bedrocksim"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx, os.Args[1:], os.Getenv, os.Stdout, os.Stderr)
	stop()
	if err == nil {
		return
	}
	fmt.Fprintln(os.Stderr, "bedrocksim:", err)
	if _, ok := errors.AsType[usageError](err); ok {
		os.Exit(2)
	}
	os.Exit(1)
}

// usageError is a command line that asks for something impossible.
type usageError struct{ error }

const usage = `bedrocksim: a Bedrock runtime that keeps quotas (Converse and InvokeModel)

Usage: bedrocksim [flags]

It keeps one ledger per Region (of the request's signature) and model ID.
Point an SDK at it with AWS_ENDPOINT_URL_BEDROCK_RUNTIME=http://ADDR.

  GET /_sim/stats  what it saw, by "region/model ID"
  GET /_healthz    200 while it serves

A models file is a JSON object by model ID; every field is optional:

  {
    "us.anthropic.claude-sonnet-4-5-20250929-v1:0": {
      "rpm": 200, "tpm": 200000, "tpd": 0,
      "shape": "rolling | calendar | bucket:10s, or several joined by +",
      "latency": {"base": "300ms", "per_token": "15ms", "jitter": 0.2},
      "output": {"min": 50, "max": 400}, "output_part": {"min": 0.05, "max": 0.2},
      "max_tokens": 64000, "burndown": 5, "bytes_per_token": 4, "family": "anthropic",
      "neighbour": {"fraction": 0.5, "on": "10s", "off": "20s"},
      "faults": [{"kind": "unavailable", "rate": 0.1, "from": "1m", "until": "2m"}]
    }
  }

Without a file it has three models of small quotas: the one above, with the
family's own defaults, amazon.nova-lite-v1:0 and amazon.titan-embed-text-v2:0.

Flags (each also as a variable, which the flag overrides):
`

// standard is what is served without a models file: quotas small enough to run
// into.
var standard = map[string]bedrocksim.Model{
	"us.anthropic.claude-sonnet-4-5-20250929-v1:0": {
		RPM: 200, TPM: 200_000,
		Latency: bedrocksim.Latency{Base: 500 * time.Millisecond, PerToken: 10 * time.Millisecond, Jitter: 0.2},
	},
	"amazon.nova-lite-v1:0": {
		RPM: 400, TPM: 400_000,
		Latency: bedrocksim.Latency{Base: 200 * time.Millisecond, PerToken: 5 * time.Millisecond, Jitter: 0.2},
	},
	"amazon.titan-embed-text-v2:0": {
		RPM:     600,
		Latency: bedrocksim.Latency{Base: 50 * time.Millisecond, Jitter: 0.2},
	},
}

// run serves until ctx ends.
func run(ctx context.Context, args []string, getenv func(string) string, stdout, stderr io.Writer) error {
	flags := flag.NewFlagSet("bedrocksim", flag.ContinueOnError)
	flags.SetOutput(io.Discard) // main prints the error, once and without the usage
	addr := flags.String("addr", "127.0.0.1:4567", "listen on this `address` (BEDROCKSIM_ADDR)")
	file := flags.String("models", "", "read the models from this JSON `file` (BEDROCKSIM_MODELS)")
	seed := flags.Uint64("seed", 1, "`number` that decides outputs, latencies and faults (BEDROCKSIM_SEED)")
	verbose := flags.Bool("v", false, "log each request (BEDROCKSIM_V)")
	for name, env := range map[string]string{
		"addr": "BEDROCKSIM_ADDR", "models": "BEDROCKSIM_MODELS", "seed": "BEDROCKSIM_SEED", "v": "BEDROCKSIM_V",
	} {
		if value := getenv(env); value != "" {
			if err := flags.Set(name, value); err != nil {
				return usageError{fmt.Errorf("%s=%s: %w", env, strconv.Quote(value), err)}
			}
		}
	}
	if err := flags.Parse(args); errors.Is(err, flag.ErrHelp) {
		fmt.Fprint(stdout, usage)
		flags.SetOutput(stdout)
		flags.PrintDefaults()
		return nil
	} else if err != nil {
		return usageError{err}
	}
	if flags.NArg() > 0 {
		return usageError{fmt.Errorf("unexpected argument %q", flags.Arg(0))}
	}

	models := standard
	if *file != "" {
		f, err := os.Open(*file)
		if err != nil {
			return usageError{err}
		}
		models, err = bedrocksim.ReadModels(f)
		f.Close()
		if err != nil {
			return usageError{fmt.Errorf("%s: %w", *file, err)}
		}
	}

	level := slog.LevelInfo
	if *verbose {
		level = slog.LevelDebug
	}
	log := slog.New(slog.NewTextHandler(stderr, &slog.HandlerOptions{Level: level}))
	sim := bedrocksim.New(bedrocksim.Options{Models: models, Seed: *seed, Log: log})
	mux := http.NewServeMux()
	mux.Handle("/", sim)
	mux.HandleFunc("GET /_healthz", func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "ok\n") })
	mux.HandleFunc("GET /_sim/stats", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		json.NewEncoder(w).Encode(sim.Stats())
	})

	listener, err := net.Listen("tcp", *addr)
	if err != nil {
		return err
	}
	// Requests end with ctx: a client whose answer is minutes away does not
	// hold up the end.
	server := &http.Server{Handler: mux, ReadHeaderTimeout: 10 * time.Second, BaseContext: func(net.Listener) context.Context { return ctx }}
	served := make(chan error, 1)
	go func() { served <- server.Serve(listener) }()
	log.Info("serving", "url", "http://"+listener.Addr().String(), "models", len(models))
	select {
	case err := <-served:
		return err
	case <-ctx.Done():
	}
	// Shutdown waits 5 to 6 s for a connection on which nothing came yet, such as
	// a client dials in advance: golang.org/issue/22682.
	closing, cancel := context.WithTimeout(context.Background(), 8*time.Second)
	defer cancel()
	if err := server.Shutdown(closing); err != nil {
		return errors.Join(err, server.Close())
	}
	log.Info("stopped", "cause", context.Cause(ctx))
	return nil
}
