package config

import "strconv"

// Identity tells the entries of a configuration apart.
type Identity struct {
	url, name string
}

// Identity is an entry's URL with its id or, in files that are too old for ids, with its token. An entry that
// continues another one keeps that one's.
func (r *Runner) Identity() Identity {
	if r.ID != 0 {
		return Identity{url: r.URL, name: strconv.FormatInt(r.ID, 10)}
	}
	if r.firstToken != "" {
		return Identity{url: r.URL, name: r.firstToken}
	}
	return Identity{url: r.URL, name: r.Token}
}

// Continue makes r the same entry as former, whose token was exchanged for that of r.
func (r *Runner) Continue(former *Runner) {
	r.firstToken = former.firstToken
	if r.firstToken == "" {
		r.firstToken = former.Token
	}
}

// Continue makes the entries that former has as well the same entries, whatever tokens they had before.
func (c *File) Continue(former *File) {
	for _, runner := range c.Runners {
		if runner.firstToken != "" {
			continue
		}
		for _, old := range former.Runners {
			if old.URL == runner.URL && old.Token == runner.Token {
				runner.Continue(old)
			}
		}
	}
}
