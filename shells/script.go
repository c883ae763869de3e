// Package shells turns the user's commands into a script for the shell that will run them. Only text
// of the user becomes a script: sources, caches and artifacts are the helper's work. Values are quoted
// by construction, so that none is ever read as shell text.
//
// The build imports it; it imports nothing of ours.
package shells

// Script is what one run of a shell does.
type Script struct {
	// Variables are exported first, in this order.
	Variables []Variable
	// TmpDir is where file variables and GITLAB_ENV are kept.
	TmpDir string
	// FreshEnv drops what an earlier job left for later stages.
	FreshEnv bool
	// Dir is the working directory of the commands. It is made if it is not there.
	Dir string
	// Notice is shown before the first command, in bold green; empty for none.
	Notice string
	// Blocks are run in order, in one shell process.
	Blocks []Block
	// Trace shows every command as the shell reads it.
	Trace bool
	// Sections shows commands of several lines as collapsed sections.
	Sections bool
	// CheckExitCodes ends the script after each command that failed, even where the shell's own rule
	// would overlook it.
	CheckExitCodes bool
}

// Block is a list of commands of one origin.
type Block struct {
	// Name begins the names of the block's sections, for example "script_step".
	Name string
	// Commands are single commands or texts of several lines. An empty one shows an empty line.
	Commands []string
	// Silent commands are not shown before they are run.
	Silent bool
}

// Variable is one variable of a script. A File variable is written to a file whose path is exported.
type Variable struct {
	Key   string
	Value string
	File  bool
}

// EnvFile is the name of the file, in TmpDir, whose lines scripts leave for later stages.
const EnvFile = "gitlab_runner_env"
