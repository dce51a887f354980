package config

import (
	"errors"
	"fmt"
	"strings"
)

// problem is one thing that is wrong: where (a variable, or a path in the
// models' JSON) and what. It never quotes a credential.
type problem struct {
	where, what string
}

func (p problem) Error() string {
	if p.where == "" {
		return p.what
	}
	return p.where + ": " + p.what
}

// problems collects what is wrong, so that an operator mends a configuration
// in one go and not one restart at a time.
type problems []problem

func (ps *problems) addf(where, format string, args ...any) {
	*ps = append(*ps, problem{where, fmt.Sprintf(format, args...)})
}

// add records err, and each part of a joined err by itself.
func (ps *problems) add(where string, err error) {
	if joined, ok := err.(interface{ Unwrap() []error }); ok {
		for _, e := range joined.Unwrap() {
			ps.add(where, e)
		}
		return
	}
	ps.addf(where, "%v", err)
}

// about reports whether a problem with the variable, or with an element of it,
// has been recorded.
func (ps problems) about(variable string) bool {
	variable, _, _ = strings.Cut(variable, "[")
	for _, p := range ps {
		if where, _, _ := strings.Cut(p.where, "["); where == variable {
			return true
		}
	}
	return false
}

func (ps problems) err() error {
	errs := make([]error, len(ps))
	for i, p := range ps {
		errs[i] = p
	}
	return errors.Join(errs...)
}
