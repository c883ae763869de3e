package config

import (
	"io/fs"
	"os"
)

// likeFormer does nothing: what may be done with a file is the directory's to say.
func likeFormer(*os.File, fs.FileInfo) error { return nil }

// giveToOwnerOf does nothing either.
func giveToOwnerOf(string, fs.FileInfo) error { return nil }
