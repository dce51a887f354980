package main

import (
	"fmt"
	"runtime/debug"

	"github.com/spf13/cobra"
)

func versionCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "version",
		Short: "Print the version",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			_, err := fmt.Fprintln(cmd.OutOrStdout(), version())
			return err
		},
	}
}

// version is what the Go toolchain wrote into the binary: a tag where there is
// one, else the commit.
func version() string {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return "producer (built without module information)"
	}
	return fmt.Sprintf("producer %s %s", info.Main.Version, info.GoVersion)
}
