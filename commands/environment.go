package commands

import (
	"os"

	"github.com/urfave/cli/v3"
)

// fromEnv makes an environment variable the default of a flag. Unlike [cli.EnvVars], an empty one
// counts as not set.
func fromEnv(name string) cli.ValueSourceChain {
	if name == "" {
		return cli.ValueSourceChain{}
	}
	return cli.NewValueSourceChain(variable(name))
}

// variable is an environment variable as the source of a flag's value.
type variable string

// Lookup implements [cli.ValueSource].
func (v variable) Lookup() (string, bool) {
	value := os.Getenv(string(v))
	return value, value != ""
}

// String implements [cli.ValueSource].
func (v variable) String() string { return "environment variable " + string(v) }

// GoString implements [cli.ValueSource].
func (v variable) GoString() string { return "variable(" + string(v) + ")" }

// IsFromEnv and Key have the help show the variable.
func (variable) IsFromEnv() bool { return true }

// Key is the variable's name.
func (v variable) Key() string { return string(v) }
