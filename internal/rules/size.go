package rules

import (
	"fmt"
	"go/ast"
	"strings"
)

// Sizes above which something wants to be taken apart.
const (
	maxFileLines     = 500
	maxFunctionLines = 70
	maxMethods       = 5
	// maxParameters are a constructor's, besides Config and Deps.
	maxParameters = 4
)

// Size checks the length of files and functions; tests may be longer.
func Size(files []*File) []string {
	var faults []string
	for _, f := range files {
		if f.Test {
			continue
		}
		if lines := f.Fset.File(f.AST.Pos()).LineCount(); lines > maxFileLines {
			faults = append(faults, fmt.Sprintf("%s has %d lines, more than %d: split it by subject", f.Name, lines, maxFileLines))
		}
		for _, decl := range f.AST.Decls {
			fn, ok := decl.(*ast.FuncDecl)
			if !ok || fn.Body == nil {
				continue
			}
			lines := f.Fset.Position(fn.End()).Line - f.Fset.Position(fn.Pos()).Line + 1
			if lines > maxFunctionLines {
				faults = append(faults, fmt.Sprintf("%s: %s has %d lines, more than %d: keep its branches and take the leaves out",
					f.at(fn.Pos()), fn.Name.Name, lines, maxFunctionLines))
			}
		}
	}
	return faults
}

// Interfaces checks that the agent's interfaces are small.
func Interfaces(files []*File) []string {
	var faults []string
	for _, f := range files {
		if f.Test || !below(f.Package, "agent") {
			continue
		}
		ast.Inspect(f.AST, func(n ast.Node) bool {
			spec, ok := n.(*ast.TypeSpec)
			if !ok {
				return true
			}
			i, ok := spec.Type.(*ast.InterfaceType)
			if !ok {
				return true
			}
			methods := 0
			for _, field := range i.Methods.List {
				methods += len(field.Names)
			}
			if methods > maxMethods {
				faults = append(faults, fmt.Sprintf("%s: interface %s has %d methods, more than %d: ask for less, or cut it into facets",
					f.at(spec.Pos()), spec.Name.Name, methods, maxMethods))
			}
			return true
		})
	}
	return faults
}

// Constructors checks that what makes something asks for little.
func Constructors(files []*File) []string {
	var faults []string
	for _, f := range files {
		for _, decl := range f.AST.Decls {
			fn, ok := decl.(*ast.FuncDecl)
			if !ok || f.Test || fn.Recv != nil || !strings.HasPrefix(fn.Name.Name, "New") {
				continue
			}
			parameters := 0
			for _, field := range fn.Type.Params.List {
				if !isBundle(field.Type) {
					parameters += max(1, len(field.Names))
				}
			}
			if parameters > maxParameters {
				faults = append(faults, fmt.Sprintf("%s: %s has %d parameters besides Config and Deps, more than %d: put them there",
					f.at(fn.Pos()), fn.Name.Name, parameters, maxParameters))
			}
		}
	}
	return faults
}

// isBundle reports whether a parameter's type is a Config or a Deps.
func isBundle(t ast.Expr) bool {
	if s, ok := t.(*ast.SelectorExpr); ok {
		t = s.Sel
	}
	name, ok := t.(*ast.Ident)
	return ok && (name.Name == "Config" || name.Name == "Deps")
}

// Documented checks that every package says what it is for.
func Documented(files []*File) []string {
	documented := map[string]bool{}
	var packages []string
	for _, f := range files {
		if f.Test {
			continue
		}
		if _, seen := documented[f.Package]; !seen {
			packages = append(packages, f.Package)
		}
		text := ""
		if f.AST.Doc != nil {
			text = f.AST.Doc.Text()
		}
		good := strings.HasPrefix(text, "Package "+f.AST.Name.Name+" ") || strings.HasPrefix(text, "Command ")
		documented[f.Package] = documented[f.Package] || good
	}
	var faults []string
	for _, pkg := range packages {
		if !documented[pkg] {
			faults = append(faults, fmt.Sprintf("%s has no package comment: say what belongs there", pkg))
		}
	}
	return faults
}
