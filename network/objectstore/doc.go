// Package objectstore finds the places of cache archives in S3, Google Cloud Storage and Azure Blob
// Storage: for an object's name it returns signed URLs, which let their bearer fetch or store that one
// object for a while and do nothing else.
//
// What it guarantees:
//   - Signing happens here, and credentials stay here: what leaves is a URL, and the headers that have to
//     go with it. Neither logs nor error texts hold keys, tokens or signed URLs.
//   - Nothing is connected, read or looked up before the first object is asked for. A Store starts no
//     goroutines and needs no closing.
//   - Most answers are computed without the network. What does need it (an assumed role, a signature by
//     Google's IAM service, a delegation key of Azure, the region of a bucket) is kept and used again.
//
// The manager makes one Store for each [[runners]] entry that has a cache, and keeps it as long as the
// entry stays the same.
package objectstore
