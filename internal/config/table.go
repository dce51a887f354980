package config

import (
	"encoding/json"
	"fmt"
	"log/slog"
	"net/url"
	"reflect"
	"strings"
)

// Row is one variable of the effective configuration.
type Row struct {
	Variable string `json:"variable"`
	Value    string `json:"value"`
	Source   string `json:"source"` // "env", "file" or "default"
}

// Table is the effective configuration, a row for each variable, without
// credentials. environ is what the configuration was loaded from.
func (c Config) Table(environ []string) []Row {
	var rows []Row
	env := ours(environ)
	v := reflect.ValueOf(c)
	for i, f := range variables() {
		row := Row{Variable: f.Tag.Get("envconfig"), Value: display(v.Field(i).Interface()), Source: "default"}
		if _, set := given(f, env); set {
			row.Source = "env"
		} else if f.Name == "Models" && c.ModelsFile != "" {
			row.Source = "file"
		}
		rows = append(rows, row)
	}
	return rows
}

func display(v any) string {
	switch v := v.(type) {
	case []string:
		shown := make([]string, len(v))
		for i, s := range v {
			shown[i] = redact(s)
		}
		return strings.Join(shown, ",")
	case string:
		return redact(v)
	case *Location:
		if v == nil {
			return ""
		}
		return v.String()
	case Models:
		if v == nil {
			return ""
		}
		text, err := json.Marshal(v)
		if err != nil {
			return err.Error()
		}
		return string(text)
	case slog.Level:
		return strings.ToLower(v.String())
	}
	return fmt.Sprint(v)
}

// redact hides the credentials of a URL. One that cannot be parsed is hidden
// whole: there is no telling which part of it is the password.
func redact(s string) string {
	if !strings.Contains(s, "@") {
		return s
	}
	u, err := url.Parse(s)
	if err != nil || u.User == nil {
		return "(hidden)"
	}
	u.User = url.User("hidden")
	return u.String()
}
