// Package version is a program's version, and the command that prints it: every
// program here has it.
package version

import (
	"fmt"
	"runtime"
	"runtime/debug"
	"strings"

	"github.com/spf13/cobra"
)

// stamped is the version that the linker was told (infra/Dockerfile): the image
// is built without Git's data, from which the toolchain would take one.
var stamped string

// String is the version and the toolchain's: what the linker was told, else what
// the toolchain wrote into the binary, a tag where there is one or the commit.
func String() string {
	version := strings.TrimSpace(stamped)
	if info, ok := debug.ReadBuildInfo(); ok && version == "" {
		version = info.Main.Version
	}
	return version + " " + runtime.Version()
}

// Command prints the name of the program that it is added to, and its version.
func Command() *cobra.Command {
	return &cobra.Command{
		Use:   "version",
		Short: "Print the version",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			_, err := fmt.Fprintln(cmd.OutOrStdout(), cmd.Root().Name(), String())
			return err
		},
	}
}
