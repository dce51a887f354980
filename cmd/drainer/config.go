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
	var models string
	cmd := &cobra.Command{
		Use:   "config",
		Short: "Show the effective configuration, and everything that is wrong with it",
		Long: `Show the effective configuration, without credentials, and everything that is
wrong with it. Nothing is called. With --models, a models file alone: what it
comes to, as JSON, or what is wrong with it; the environment is not looked at.
What could run, but hardly as it was meant, is a warning.

Exit code: 0 a drainer could run with it; 2 it could not.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if models != "" {
				return showModels(cmd.OutOrStdout(), cmd.ErrOrStderr(), models)
			}
			environ := os.Environ()
			cfg, _, problems := load(cmd.Context(), environ)
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
			warn(cmd.ErrOrStderr(), cfg.Models.Warnings(cfg.QuotaFraction))
			return nil
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "as JSON")
	cmd.Flags().StringVar(&models, "models", "", "look at this models file and at nothing else")
	return cmd
}

func showModels(w, stderr io.Writer, name string) error {
	data, err := os.ReadFile(name)
	if err != nil {
		return err
	}
	models, err := config.ParseModels(data)
	if err != nil {
		return failure{err, exitUsage}
	}
	warn(stderr, models.Warnings(1))
	return showJSON(w, models)
}

func warn(w io.Writer, warnings []string) {
	for _, text := range warnings {
		fmt.Fprintln(w, "drainer: warning:", text)
	}
}

func showTable(w io.Writer, rows []config.Row) error {
	out := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	for _, r := range rows {
		fmt.Fprintf(out, "%s\t%s\t%s\n", r.Variable, r.Source, r.Value)
	}
	return out.Flush()
}

func showJSON[T any](w io.Writer, v T) error {
	e := json.NewEncoder(w)
	e.SetIndent("", "  ")
	return e.Encode(v)
}
