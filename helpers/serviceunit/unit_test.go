package serviceunit_test

import (
	"flag"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"gitlab.com/gitlab-org/gitlab-runner/helpers/serviceunit"
)

var update = flag.Bool("update", false, "write the golden files")

func services() map[string]serviceunit.Service {
	plain := serviceunit.Service{
		Name: "gitlab-runner", Description: "GitLab Runner", Executable: "/usr/bin/gitlab-runner",
		Arguments: []string{"run", "--config", "/etc/gitlab-runner/config.toml", "--working-directory", "/home/gitlab-runner", "--service", "gitlab-runner", "--user", "gitlab-runner"},
		LogDir:    "/var/log",
	}
	odd := plain
	odd.Name = "runner.2"
	odd.Executable = `/opt/git lab/run%er`
	odd.Arguments = []string{"run", "--config", `/srv/it's "here" $HOME/<config>.toml`}
	odd.User, odd.Home = "ci", "/home/ci"
	perUser := plain
	perUser.PerUser = true
	return map[string]serviceunit.Service{"plain": plain, "odd": odd, "per-user": perUser}
}

func formats() map[string]func(serviceunit.Service) (string, error) {
	return map[string]func(serviceunit.Service) (string, error){
		"systemd": serviceunit.Service.Systemd, "sysv": serviceunit.Service.SysV,
		"openrc": serviceunit.Service.OpenRC, "launchd": serviceunit.Service.Launchd,
	}
}

func TestUnitsAreTheGoldenOnes(t *testing.T) {
	for name, service := range services() {
		for format, render := range formats() {
			t.Run(name+"/"+format, func(t *testing.T) {
				text, err := render(service)
				require.NoError(t, err)
				path := filepath.Join("testdata", name+"."+format)
				if *update {
					require.NoError(t, os.WriteFile(path, []byte(text), 0o644))
				}
				want, err := os.ReadFile(path)
				require.NoError(t, err)
				require.Equal(t, string(want), text)
				require.NotContains(t, text, "{{")
			})
		}
	}
}

func TestScriptsAreValidForAShell(t *testing.T) {
	for name := range services() {
		for _, format := range []string{"sysv", "openrc"} {
			out, err := exec.CommandContext(t.Context(), "sh", "-n", filepath.Join("testdata", name+"."+format)).CombinedOutput()
			require.NoError(t, err, "%s.%s: %s", name, format, out)
		}
	}
}

func TestAServiceThatNoInitSystemCanBeToldIsRefused(t *testing.T) {
	for name, change := range map[string]func(*serviceunit.Service){
		"a path as its name":      func(s *serviceunit.Service) { s.Name = "../../etc/passwd" },
		"an empty name":           func(s *serviceunit.Service) { s.Name = "" },
		"an option as its name":   func(s *serviceunit.Service) { s.Name = "--now" },
		"a second line":           func(s *serviceunit.Service) { s.Description = "x\nExecStartPre=/bin/rm" },
		"braces in an argument":   func(s *serviceunit.Service) { s.Arguments = []string{"{{.Name}}"} },
		"no program":              func(s *serviceunit.Service) { s.Executable = "" },
		"a second line in a user": func(s *serviceunit.Service) { s.User = "a\nb" },
	} {
		t.Run(name, func(t *testing.T) {
			service := services()["plain"]
			change(&service)
			for _, render := range formats() {
				_, err := render(service)
				require.Error(t, err)
			}
		})
	}
}

// A shell that runs the words of the SysV script must see the arguments as they were given.
func TestArgumentsReachTheProgramAsTheyWereGiven(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		service := services()["plain"]
		service.Arguments = rapid.SliceOfN(rapid.StringMatching("[ -~]{1,12}"), 1, 4).Filter(func(args []string) bool {
			return !strings.Contains(strings.Join(args, "\n"), "{{")
		}).Draw(t, "arguments")
		text, err := service.SysV()
		require.NoError(t, err)
		_, rest, _ := strings.Cut(text, "\tset -- ")
		words, _, _ := strings.Cut(rest, "\n\tif [ -n")
		out, err := exec.Command("sh", "-c", "set -- "+words+"\nprintf '%s\\n' \"$@\"").Output()
		require.NoError(t, err)
		require.Equal(t, strings.Join(service.Arguments, "\n")+"\n", string(out))

		text, err = service.OpenRC()
		require.NoError(t, err)
		_, rest, _ = strings.Cut(text, "command_args=")
		words, _, _ = strings.Cut(rest, "\n")
		out, err = exec.Command("sh", "-c", "command_args="+words+"\neval \"set -- $command_args\"\nprintf '%s\\n' \"$@\"").Output()
		require.NoError(t, err)
		require.Equal(t, strings.Join(service.Arguments, "\n")+"\n", string(out))
	})
}
