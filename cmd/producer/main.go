// Command producer turns files and pipes into jobs on a queue. It holds flags,
// signals and exit codes; the work is internal/enqueue's.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/sluicehq/sluice/cmd/internal/version"
)

// The exit codes. Scripts tell a mistake, which trying again will not mend, from
// a try that can be resumed.
const (
	exitOK    = 0
	exitError = 1
	exitUsage = 2 // bad input or usage: nothing was sent
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	// The first signal asks for an orderly end; the second has its usual effect.
	context.AfterFunc(ctx, stop)
	os.Exit(run(ctx, os.Args[1:], os.Stdin, os.Stdout, os.Stderr))
}

// commandError is an error of a command that has begun its work. What cobra finds
// wrong before that is a usage error.
type commandError struct {
	error
	code int
}

func (e commandError) Unwrap() error { return e.error }

func run(ctx context.Context, args []string, stdin io.Reader, stdout, stderr io.Writer) int {
	root := &cobra.Command{
		Use:           "producer",
		Short:         "Put jobs for Amazon Bedrock on a Sluice queue",
		SilenceUsage:  true,
		SilenceErrors: true,
		// Without a command, help is an error: a script that lost its arguments
		// must not look successful.
		RunE: func(cmd *cobra.Command, _ []string) error {
			_ = cmd.Help() // to stdout, as far as that takes it
			return errors.New("a command is missing")
		},
		Args: cobra.NoArgs,
	}
	root.AddCommand(enqueueCommand(), validateCommand(), version.Command())
	root.SetArgs(args)
	root.SetIn(stdin)
	root.SetOut(stdout)
	root.SetErr(stderr)
	err := root.ExecuteContext(ctx)
	if err == nil {
		return exitOK
	}
	fmt.Fprintln(stderr, "producer:", err)
	if e, ok := errors.AsType[commandError](err); ok {
		return e.code
	}
	return exitUsage
}
