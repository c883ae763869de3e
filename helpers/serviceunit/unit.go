// Package serviceunit writes what init systems are told of a service: units of systemd, scripts of SysV
// and OpenRC, property lists of launchd. It only makes texts; who installs them is another's work. Where
// such a text has a syntax, values are quoted in it, so that no path can become a setting of its own.
//
// Anything may import this package; it imports nothing of ours.
package serviceunit

import (
	_ "embed"
	"encoding/xml"
	"errors"
	"fmt"
	"regexp"
	"strings"
	"text/template"
)

// Service is a program that the init system keeps running.
type Service struct {
	// Name is the unit's, and that of its files.
	Name        string
	Description string
	// Executable is an absolute path, Arguments follow it.
	Executable string
	Arguments  []string
	// User is the account that the program runs as, empty for the init system's own.
	User string
	// Home is the home directory of User, for init systems that do not look it up.
	Home string
	// PerUser says that the unit belongs to a user's session and not to the machine.
	PerUser bool
	// LogDir is where the program's output goes, for init systems without a log.
	LogDir string
}

//go:embed templates/systemd.service
var systemdText string

//go:embed templates/sysv.sh
var sysvText string

//go:embed templates/openrc.sh
var openrcText string

//go:embed templates/launchd.plist
var launchdText string

// Systemd returns the unit. Its restart limits, and what is left out of it, are as operators of GitLab
// Runner know them: a stop sends SIGTERM, and a drop-in changes that.
func (s Service) Systemd() (string, error) { return s.render(systemdText, systemdWord) }

// SysV returns the script for /etc/init.d, for systems in the style of Debian and of Red Hat.
func (s Service) SysV() (string, error) { return s.render(sysvText, shellWord) }

// OpenRC returns the script for /etc/init.d.
func (s Service) OpenRC() (string, error) { return s.render(openrcText, shellWord) }

// Launchd returns the property list.
func (s Service) Launchd() (string, error) { return s.render(launchdText, xmlText) }

var name = regexp.MustCompile(`^[A-Za-z0-9_][A-Za-z0-9_.-]*$`)

// Check finds what no init system can be told.
func (s Service) Check() error {
	if !name.MatchString(s.Name) {
		return fmt.Errorf("%q cannot be the name of a service: use letters, digits, dots, - and _", s.Name)
	}
	for _, value := range append([]string{s.Description, s.Executable, s.User, s.Home, s.LogDir}, s.Arguments...) {
		if strings.ContainsAny(value, "\n\r\x00") {
			return fmt.Errorf("%q cannot stand in a service's unit: it has more than one line", value)
		}
		// Braces have a meaning for what writes the unit to its place.
		if strings.Contains(value, "{{") {
			return fmt.Errorf("%q cannot stand in a service's unit: it has {{ in it", value)
		}
	}
	if s.Executable == "" {
		return errors.New("a service needs a program")
	}
	return nil
}

func (s Service) render(text string, quote func(string) string) (string, error) {
	if err := s.Check(); err != nil {
		return "", err
	}
	t, err := template.New(s.Name).Funcs(template.FuncMap{"quote": quote, "path": systemdPath, "double": inDoubleQuotes}).Parse(text)
	if err != nil {
		return "", fmt.Errorf("reading the template of a unit: %w", err)
	}
	var out strings.Builder
	if err := t.Execute(&out, s); err != nil {
		return "", fmt.Errorf("writing a unit: %w", err)
	}
	return out.String(), nil
}

var systemdEscapes = strings.NewReplacer(`\`, `\\`, `"`, `\"`, `%`, `%%`, `$`, `$$`)

// systemdWord quotes a word of a command line.
func systemdWord(s string) string { return `"` + systemdEscapes.Replace(s) + `"` }

var systemdPathEscapes = strings.NewReplacer(`\`, `\x5c`, ` `, `\x20`, `"`, `\x22`, `'`, `\x27`, `%`, `%%`)

// systemdPath writes a path where the whole value is one.
func systemdPath(s string) string { return systemdPathEscapes.Replace(s) }

// shellWord quotes a word for a shell.
func shellWord(s string) string { return `'` + strings.ReplaceAll(s, `'`, `'\''`) + `'` }

var doubleQuoteEscapes = strings.NewReplacer(`\`, `\\`, `"`, `\"`, `$`, `\$`, "`", "\\`")

// inDoubleQuotes escapes what a shell would expand between double quotes.
func inDoubleQuotes(s string) string { return doubleQuoteEscapes.Replace(s) }

func xmlText(s string) string {
	var out strings.Builder
	// The error is the writer's, which has none.
	_ = xml.EscapeText(&out, []byte(s))
	return out.String()
}
