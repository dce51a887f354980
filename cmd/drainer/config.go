package main

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/sluicehq/sluice/internal/config"
)

func configCommand() *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "config",
		Short: "Show the effective configuration, and everything that is wrong with it",
		Long: `Show the effective configuration, without credentials, and everything that is
wrong with it. Nothing is called.

Exit code: 0 a drainer could run with it; 2 it could not.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			environ := os.Environ()
			cfg, problems := config.LoadForRun(environ)
			show := showTable
			if asJSON {
				show = showJSON
			}
			if err := show(cmd.OutOrStdout(), cfg.Table(environ)); err != nil {
				return failure{fmt.Errorf("write the configuration: %w", err), exitError}
			}
			if problems != nil {
				return failure{problems, exitUsage}
			}
			return nil
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "as JSON")
	return cmd
}

func showTable(w io.Writer, rows []config.Row) error {
	out := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	for _, r := range rows {
		fmt.Fprintf(out, "%s\t%s\t%s\n", r.Variable, r.Source, r.Value)
	}
	return out.Flush()
}

func showJSON(w io.Writer, rows []config.Row) error {
	e := json.NewEncoder(w)
	e.SetIndent("", "  ")
	return e.Encode(rows)
}
