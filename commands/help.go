package commands

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/urfave/cli/v3"
)

// helpWidth is how many columns a help text has at most, unless a word is longer.
const helpWidth = 80

// fitHelp gives a command and those below it help texts that fit a terminal. The library would wrap
// nothing.
func fitHelp(c *cli.Command, above []string) {
	path := append(slices.Clone(above), c.Name)
	for _, below := range c.Commands {
		fitHelp(below, path)
	}
	text := helpText(c, path)
	c.CustomHelpTemplate = escapeTemplate(text)
	switch {
	case len(above) == 0:
		c.CustomRootCommandHelpTemplate = c.CustomHelpTemplate
	case len(c.Commands) > 0:
		fitGroup(c, text)
	}
}

// fitGroup has a group of commands show its own help. The library shows that of a group without commands only, and so
// they are hidden from it; that takes them out of what the shell completes, which is put right.
func fitGroup(c *cli.Command, text string) {
	otherwise := c.Action
	for _, below := range c.Commands {
		below.Hidden = true
	}
	c.ShellComplete = func(_ context.Context, cmd *cli.Command) {
		for _, below := range c.Commands {
			fmt.Fprintln(cmd.Root().Writer, below.Name)
		}
	}
	c.Action = func(ctx context.Context, cmd *cli.Command) error {
		if !cmd.Args().Present() {
			_, err := fmt.Fprint(cmd.Root().Writer, text)
			return err
		}
		if otherwise != nil {
			return otherwise(ctx, cmd)
		}
		return fmt.Errorf("unknown command %q: see gitlab-runner %s --help", cmd.Args().First(), cmd.Name)
	}
}

// escapeTemplate writes a text so that a template of the standard library yields it.
func escapeTemplate(text string) string { return strings.ReplaceAll(text, "{{", `{{"{{"}}`) }

func helpText(c *cli.Command, path []string) string {
	var out strings.Builder
	name := strings.Join(path, " ")
	fmt.Fprintf(&out, "%s\n\nUsage:\n", wrapText(name+": "+c.Usage, ""))
	usage := "  " + name
	if c.UsageText != "" {
		usage = "  " + c.UsageText
	} else {
		if len(c.VisibleCommands()) > 0 {
			usage += " COMMAND"
		}
		usage += " [OPTION...]"
		if c.ArgsUsage != "" {
			usage += " " + c.ArgsUsage
		}
	}
	out.WriteString(usage + "\n")
	if c.Description != "" {
		fmt.Fprintf(&out, "\n%s\n", strings.TrimRight(c.Description, "\n"))
	}
	helpCommands(&out, c)
	helpFlags(&out, c)
	return out.String()
}

func helpCommands(out *strings.Builder, c *cli.Command) {
	commands := c.VisibleCommands()
	if len(commands) == 0 {
		return
	}
	width := 0
	for _, below := range commands {
		width = max(width, len(below.Name))
	}
	out.WriteString("\nCommands:\n")
	for _, below := range commands {
		indent := strings.Repeat(" ", width+4)
		fmt.Fprintf(out, "  %-*s%s\n", width+2, below.Name, strings.TrimPrefix(wrapText(below.Usage, indent), indent))
	}
}

func helpFlags(out *strings.Builder, c *cli.Command) {
	heading := "\nOptions:\n"
	for _, flag := range c.Flags {
		if visible, ok := flag.(cli.VisibleFlag); ok && !visible.IsVisible() {
			continue
		}
		doc, ok := flag.(cli.DocGenerationFlag)
		if !ok {
			continue
		}
		out.WriteString(heading)
		heading = ""
		value, usage := placeholder(doc.GetUsage())
		var names []string
		for _, name := range flag.Names() {
			dashes := "--"
			if len(name) == 1 {
				dashes = "-"
			}
			names = append(names, dashes+name)
		}
		line := "  " + strings.Join(names, ", ")
		if doc.TakesValue() && value == "" {
			value = "VALUE"
		}
		if doc.TakesValue() {
			line += " " + value
		}
		if text := doc.GetDefaultText(); doc.IsDefaultVisible() && doc.TakesValue() && text != "" && text != `""` {
			usage += " (default: " + text + ")"
		}
		if env := doc.GetEnvVars(); len(env) > 0 {
			usage += " [$" + strings.Join(env, ", $") + "]"
		}
		fmt.Fprintf(out, "%s\n%s\n", line, wrapText(usage, "      "))
	}
	if heading == "" {
		out.WriteString("  --help, -h\n      show this help\n")
	}
}

// placeholder takes the name of a flag's value out of its usage, where it stands in back quotes.
func placeholder(usage string) (value, text string) {
	before, rest, found := strings.Cut(usage, "`")
	value, after, closed := strings.Cut(rest, "`")
	if !found || !closed {
		return "", usage
	}
	return value, before + value + after
}

// wrapText breaks a text into indented lines.
func wrapText(text, indent string) string {
	var lines []string
	line := indent
	for _, word := range strings.Fields(text) {
		if line != indent && len([]rune(line))+1+len([]rune(word)) > helpWidth {
			lines = append(lines, line)
			line = indent
		}
		if line != indent {
			line += " "
		}
		line += word
	}
	return strings.Join(append(lines, line), "\n")
}
