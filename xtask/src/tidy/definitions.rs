//! The names that a source defines: types, variants, traits, modules, functions, fields and
//! constants. Names that a trait of someone else asks for are not ours and are left out.

use proc_macro2::Ident;
use syn::visit::{self, Visit};
use syn::{
    Field, ImplItem, ItemConst, ItemEnum, ItemFn, ItemImpl, ItemMod, ItemStatic, ItemStruct,
    ItemTrait, ItemType, LitStr, TraitItem, Variant,
};

/// What a name names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum NameKind {
    /// A struct, enum, trait or type alias.
    Type,
    /// A module.
    Module,
    /// A field, variant, function or constant.
    Other,
    /// A metric, in a string.
    Metric,
}

/// A name and where it is defined.
#[derive(Clone, Debug)]
pub(super) struct Name {
    /// The name.
    pub(super) text: String,
    /// What it names.
    pub(super) kind: NameKind,
    /// The line, from 1.
    pub(super) line: usize,
}

/// Every name that the source defines, in its order.
pub(super) fn names(source: &syn::File) -> Vec<Name> {
    let mut collector = Collector { names: Vec::new() };
    collector.visit_file(source);
    collector.names
}

struct Collector {
    names: Vec<Name>,
}

impl Collector {
    fn add(&mut self, ident: &Ident, kind: NameKind) {
        self.names.push(Name {
            text: ident.to_string(),
            kind,
            line: ident.span().start().line,
        });
    }
}

impl<'ast> Visit<'ast> for Collector {
    fn visit_item_struct(&mut self, item: &'ast ItemStruct) {
        self.add(&item.ident, NameKind::Type);
        visit::visit_item_struct(self, item);
    }

    fn visit_item_enum(&mut self, item: &'ast ItemEnum) {
        self.add(&item.ident, NameKind::Type);
        visit::visit_item_enum(self, item);
    }

    fn visit_item_trait(&mut self, item: &'ast ItemTrait) {
        self.add(&item.ident, NameKind::Type);
        for inner in &item.items {
            if let TraitItem::Fn(function) = inner {
                self.add(&function.sig.ident, NameKind::Other);
            }
        }
        visit::visit_item_trait(self, item);
    }

    fn visit_item_type(&mut self, item: &'ast ItemType) {
        self.add(&item.ident, NameKind::Type);
        visit::visit_item_type(self, item);
    }

    fn visit_item_mod(&mut self, item: &'ast ItemMod) {
        self.add(&item.ident, NameKind::Module);
        visit::visit_item_mod(self, item);
    }

    fn visit_item_fn(&mut self, item: &'ast ItemFn) {
        self.add(&item.sig.ident, NameKind::Other);
        visit::visit_item_fn(self, item);
    }

    fn visit_item_const(&mut self, item: &'ast ItemConst) {
        self.add(&item.ident, NameKind::Other);
        visit::visit_item_const(self, item);
    }

    fn visit_item_static(&mut self, item: &'ast ItemStatic) {
        self.add(&item.ident, NameKind::Other);
        visit::visit_item_static(self, item);
    }

    fn visit_item_impl(&mut self, item: &'ast ItemImpl) {
        if item.trait_.is_none() {
            for inner in &item.items {
                if let ImplItem::Fn(function) = inner {
                    self.add(&function.sig.ident, NameKind::Other);
                }
            }
        }
        visit::visit_item_impl(self, item);
    }

    fn visit_variant(&mut self, variant: &'ast Variant) {
        self.add(&variant.ident, NameKind::Other);
        visit::visit_variant(self, variant);
    }

    fn visit_field(&mut self, field: &'ast Field) {
        if let Some(ident) = &field.ident {
            self.add(ident, NameKind::Other);
        }
        visit::visit_field(self, field);
    }

    fn visit_lit_str(&mut self, literal: &'ast LitStr) {
        let text = literal.value();
        let plain = text
            .chars()
            .all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_');
        if plain && text.starts_with("cairn_") {
            let line = literal.span().start().line;
            let kind = NameKind::Metric;
            self.names.push(Name { text, kind, line });
        }
    }
}
