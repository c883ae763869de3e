package blueprint

import (
	"encoding/base64"
	"encoding/binary"
	"unicode/utf16"
)

// The dialects of scripts.
const (
	shellBash       = "bash"
	shellPwsh       = "pwsh"
	shellPowershell = "powershell"
)

// shellOf returns the dialect for the shell key of a runner entry.
func shellOf(name, os string) (string, error) {
	switch name {
	case "":
		if os == windows {
			return shellPowershell, nil
		}
		return shellBash, nil
	case "sh", shellBash:
		return shellBash, nil
	case shellPwsh, shellPowershell:
		return name, nil
	default:
		return "", configurationError("docker doesn't support shells that require script file")
	}
}

// findShell replaces itself by the best shell of an image, which then reads the script from standard
// input.
const findShell = `for shell in /usr/local/bin/bash /usr/bin/bash /bin/bash /usr/local/bin/sh /usr/bin/sh /bin/sh /busybox/sh; do
	if [ -x "$shell" ]; then exec "$shell"; fi
done
echo shell not found
exit 1
`

// readStdin makes a PowerShell that reads its script from standard input and speaks UTF-8.
const readStdin = "$OutputEncoding = [console]::InputEncoding = [console]::OutputEncoding = New-Object System.Text.UTF8Encoding\r\n" +
	"pwsh -NoProfile -NonInteractive -Command -\r\n" +
	"exit $LASTEXITCODE\r\n"

// buildCommand is the command of the build container.
func buildCommand(shell string) []string {
	flags := []string{"-NoProfile", "-NoLogo", "-InputFormat", "text", "-OutputFormat", "text",
		"-NonInteractive", "-ExecutionPolicy", "Bypass"}
	switch shell {
	case shellPwsh:
		return append(append([]string{shellPwsh}, flags...), "-EncodedCommand", encodeCommand(readStdin))
	case shellPowershell:
		return append(append([]string{shellPowershell}, flags...), "-Command", "-")
	default:
		return []string{"sh", "-c", findShell}
	}
}

// TerminalCommand is the interactive shell of a container whose scripts are in the dialect of a runner entry's shell
// key.
func TerminalCommand(shell, os string) []string {
	dialect, err := shellOf(shell, os)
	if err != nil || dialect == shellBash {
		return []string{"sh", "-c", findShell}
	}
	return []string{dialect}
}

// encodeCommand is the form in which PowerShell takes a command on its command line.
func encodeCommand(command string) string {
	units := utf16.Encode([]rune(command))
	data := make([]byte, 0, 2*len(units))
	for _, unit := range units {
		data = binary.LittleEndian.AppendUint16(data, unit)
	}
	return base64.StdEncoding.EncodeToString(data)
}
