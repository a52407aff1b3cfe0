// Package rules keeps the rules of the house by tests that read the source:
// which package may import which, what pure packages must not do, and how large
// a file, a function and an interface may be. A new rule is a function in
// rules.go over the parsed tree, a line in TestHouse and a violation in
// testdata that proves that it bites.
package rules

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"path"
	"path/filepath"
	"strconv"
	"strings"
)

// module is the path of the project's own packages.
const module = "nodelet"

// File is one parsed Go file.
type File struct {
	// Package is the import path below the module: "agent/plan".
	Package string
	// Name is the path of the file below the root.
	Name string
	Test bool
	AST  *ast.File
	Fset *token.FileSet
}

// Imports are the paths that the file imports.
func (f *File) Imports() []string {
	var paths []string
	for _, s := range f.AST.Imports {
		p, err := strconv.Unquote(s.Path.Value)
		if err == nil {
			paths = append(paths, p)
		}
	}
	return paths
}

// Qualified is "import/path.Name" of an expression that takes a name from an
// imported package, however that was renamed; else "".
func (f *File) Qualified(n ast.Node) string {
	selector, ok := n.(*ast.SelectorExpr)
	if !ok {
		return ""
	}
	x, ok := selector.X.(*ast.Ident)
	if !ok {
		return ""
	}
	for _, s := range f.AST.Imports {
		p, err := strconv.Unquote(s.Path.Value)
		if err == nil && localName(s, p) == x.Name {
			return p + "." + selector.Sel.Name
		}
	}
	return ""
}

// localName is what a file calls an imported package. A last element such as v2
// is a version, not a name.
func localName(s *ast.ImportSpec, importPath string) string {
	if s.Name != nil {
		return s.Name.Name
	}
	name := path.Base(importPath)
	if strings.HasPrefix(name, "v") && strings.Trim(name[1:], "0123456789") == "" {
		name = path.Base(path.Dir(importPath))
	}
	return name
}

// at is a place in the file, for messages.
func (f *File) at(pos token.Pos) string {
	return fmt.Sprintf("%s:%d", f.Name, f.Fset.Position(pos).Line)
}

// Load parses every Go file below root but those in testdata and hidden folders.
func Load(root string) ([]*File, error) {
	var files []*File
	err := filepath.WalkDir(root, func(name string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(root, name)
		if err != nil {
			return err
		}
		rel = filepath.ToSlash(rel)
		if d.IsDir() {
			if rel != "." && (d.Name() == "testdata" || strings.HasPrefix(d.Name(), ".")) {
				return filepath.SkipDir
			}
			return nil
		}
		if !strings.HasSuffix(rel, ".go") {
			return nil
		}
		fset := token.NewFileSet()
		parsed, err := parser.ParseFile(fset, name, nil, parser.ParseComments|parser.SkipObjectResolution)
		if err != nil {
			return fmt.Errorf("parsing %s: %w", rel, err)
		}
		files = append(files, &File{Package: path.Dir(rel), Name: rel, AST: parsed, Fset: fset,
			Test: strings.HasSuffix(rel, "_test.go")})
		return nil
	})
	return files, err
}

// own returns the path below the module of one of its own packages.
func own(importPath string) (string, bool) {
	return strings.CutPrefix(importPath, module+"/")
}

// below reports whether pkg is dir or a folder in it.
func below(pkg, dir string) bool { return pkg == dir || strings.HasPrefix(pkg, dir+"/") }
