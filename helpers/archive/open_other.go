//go:build !unix

package archive

const openNoWait = 0
