// Package mocks has a testify mock of connector.Client, for the tests of those who use one.
package mocks

//go:generate go run github.com/vektra/mockery/v2@v2.53.6 --dir .. --name Client --output . --with-expecter --filename client.go --disable-version-string
