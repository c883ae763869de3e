package plugin

import (
	"errors"
	"fmt"
	"io"
	"os"
	"runtime/debug"

	"gitlab.com/gitlab-org/fleeting/fleeting/provider"
)

const usage = `usage: this program is a fleeting plugin, to be started by GitLab Runner without arguments.
  version                      print the version
  bootstrap <repository path>  install this program in the plugin directory
`

// Main is the whole main function of a plugin. Without arguments it serves the group as Serve does;
// "version" prints version.Full(), and "bootstrap <repository path>" installs the executable in the
// directory where GitLab Runner looks for plugins (FLEETING_PLUGIN_PATH or the user's configuration
// directory). It exits with a status other than 0 if that fails or the arguments are wrong.
func Main(impl provider.InstanceGroup, version VersionInfo) {
	if info, ok := debug.ReadBuildInfo(); ok {
		version = version.completed(info)
	}
	if len(os.Args) < 2 {
		Serve(impl)
		return
	}
	if err := runCommand(os.Args[1:], os.Stdout, version); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// runCommand carries out the command line of a plugin that is not to serve.
func runCommand(args []string, out io.Writer, version VersionInfo) error {
	switch args[0] {
	case "version", "-version", "--version":
		_, err := fmt.Fprintln(out, version.Full())
		return err
	case "bootstrap":
		if len(args) != 2 || args[1] == "" {
			return errors.New("bootstrap requires plugin repository path, for example registry.example.com/group/plugin")
		}
		return bootstrap(args[1], out, version)
	case "help", "-h", "-help", "--help":
		_, err := io.WriteString(out, usage)
		return err
	default:
		return fmt.Errorf("unknown argument %q\n%s", args[0], usage)
	}
}
