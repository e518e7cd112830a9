//go:build tools

// Package tools names what the manifests are built with, so that go.sum pins it.
package tools

import _ "sigs.k8s.io/kustomize/kustomize/v5"
