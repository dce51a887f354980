// Package version is the command that prints a program's version: every program
// here has it, and nobody else needs it.
package version

import (
	"fmt"
	"runtime/debug"

	"github.com/spf13/cobra"
)

// Command prints the name of the program that it is added to, and what the Go
// toolchain wrote into the binary: a tag where there is one, else the commit.
func Command() *cobra.Command {
	return &cobra.Command{
		Use:   "version",
		Short: "Print the version",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			version := "(built without module information)"
			if info, ok := debug.ReadBuildInfo(); ok {
				version = info.Main.Version + " " + info.GoVersion
			}
			_, err := fmt.Fprintln(cmd.OutOrStdout(), cmd.Root().Name(), version)
			return err
		},
	}
}
