// Command drainer is the service: it takes jobs from the queues at the pace of
// the quota until it is told to stop. It holds flags, signals and exit codes;
// the work is internal/drainer's. Its demo runs the same code against an AWS of
// its own.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/sluicehq/sluice/cmd/internal/version"
)

// The exit codes. A platform restarts what ended with 1 and should not restart
// what ended with 2.
const (
	exitOK    = 0
	exitError = 1
	exitUsage = 2 // usage or configuration: no restart mends it
)

func main() {
	ctx, stop := context.WithCancelCause(context.Background())
	signals := make(chan os.Signal, 2)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM)
	go func() {
		stop(fmt.Errorf("%v signal received", <-signals))
		// The default action would not end the first process of a container.
		os.Exit(128 + int((<-signals).(syscall.Signal)))
	}()
	os.Exit(execute(ctx, os.Args[1:], os.Stdout, os.Stderr))
}

// failure is an error of a command that has begun its work. What cobra finds
// wrong before that is usage.
type failure struct {
	error
	code int
}

func execute(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	run := runCommand()
	root := &cobra.Command{
		Use:           "drainer",
		Short:         "Drain job queues into Amazon Bedrock at the pace of its quotas",
		Long:          run.Long,
		Args:          cobra.NoArgs,
		SilenceUsage:  true,
		SilenceErrors: true,
		RunE:          run.RunE,
	}
	root.Flags().AddFlagSet(run.Flags())
	root.AddCommand(run, demoCommand(), configCommand(), healthcheckCommand(), version.Command())
	root.SetArgs(args)
	root.SetOut(stdout)
	root.SetErr(stderr)
	err := root.ExecuteContext(ctx)
	if err == nil {
		return exitOK
	}
	for line := range strings.Lines(err.Error()) { // a configuration can have many problems
		fmt.Fprintln(stderr, "drainer:", strings.TrimSuffix(line, "\n"))
	}
	if f, ok := errors.AsType[failure](err); ok {
		return f.code
	}
	return exitUsage
}

// terminal returns what tells the columns of w, or nil where w is no terminal.
func terminal(w io.Writer) (width func() int) {
	file, ok := w.(*os.File)
	if !ok || !term.IsTerminal(int(file.Fd())) {
		return nil
	}
	return func() int {
		columns, _, err := term.GetSize(int(file.Fd()))
		if err != nil || columns == 0 {
			return 80
		}
		return columns
	}
}
