package main

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"os"
	"time"

	"github.com/spf13/cobra"

	"github.com/sluicehq/sluice/internal/config"
)

// healthTimeout is below the 5 s that ECS gives a health check by default.
const healthTimeout = 3 * time.Second

func healthcheckCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "healthcheck",
		Short: "Ask the drainer on this machine whether it is alive",
		Long: `Ask the drainer that listens on SLUICE_ADMIN_ADDR whether it is alive: the health
check of a container without a shell.

Exit code: 0 it is; 1 it is not.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			// What else is wrong with the configuration is for run to tell.
			cfg, _ := config.Load(os.Environ())
			if err := healthy(cmd.Context(), cfg.AdminAddr); err != nil {
				return failure{err, exitError}
			}
			return nil
		},
	}
}

func healthy(ctx context.Context, addr string) error {
	host, port, err := net.SplitHostPort(addr)
	if err != nil {
		return fmt.Errorf("SLUICE_ADMIN_ADDR: %w", err)
	}
	if ip := net.ParseIP(host); host == "" || ip.IsUnspecified() {
		host = "127.0.0.1" // who listens everywhere is asked here
	}
	ctx, cancel := context.WithTimeout(ctx, healthTimeout)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+net.JoinHostPort(host, port)+"/healthz", nil)
	if err != nil {
		return err
	}
	// Not the default transport: a proxy in the environment has no business here.
	response, err := (&http.Transport{}).RoundTrip(request)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		return fmt.Errorf("healthz answered %s", response.Status)
	}
	return nil
}
