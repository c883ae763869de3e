// Package storage keeps, for every instance, what a scaler must still know after a restart: how to
// connect to the instance, how often it was used and which tasks hold its slots.
//
// The file storage guarantees that a state which Put accepted survives the death of the process and
// of the machine at any moment, and that what is read back is a state as it was put, never part of
// one. A file that cannot be read as a state is set aside and named; it never hides the others.
//
// States contain credentials. The directory and its files are readable by their owner only.
//
// Package taskscaler uses the storage; programs construct one and hand it over.
package storage
