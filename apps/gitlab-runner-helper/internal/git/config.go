package git

import (
	"fmt"
	"strings"
)

// Config is a configuration file in the making.
type Config struct {
	text    strings.Builder
	section string
	err     error
}

// Add appends an entry. The subsection may be empty. It need not be the same as that of the entry
// before; entries of one key add up.
func (c *Config) Add(section, subsection, key, value string) {
	header := "[" + section + "]"
	if subsection != "" {
		if strings.ContainsAny(subsection, "\n\x00") {
			c.err = fmt.Errorf("git's configuration cannot hold the subsection of %s.%s: it has a line break or a NUL byte", section, key)
			return
		}
		header = "[" + section + ` "` + strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(subsection) + `"]`
	}
	if strings.ContainsRune(value, 0) {
		c.err = fmt.Errorf("git's configuration cannot hold the value of %s.%s: it has a NUL byte", section, key)
		return
	}
	if header != c.section {
		c.text.WriteString(header + "\n")
		c.section = header
	}
	c.text.WriteString("\t" + key + " = " + quoteValue(value) + "\n")
}

// Bytes returns the file's content, or an error about the first entry that no file can hold.
func (c *Config) Bytes() ([]byte, error) {
	if c.err != nil {
		return nil, c.err
	}
	return []byte(c.text.String()), nil
}

func quoteValue(value string) string {
	return `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`, "\n", `\n`, "\t", `\t`, "\b", `\b`).Replace(value) + `"`
}
