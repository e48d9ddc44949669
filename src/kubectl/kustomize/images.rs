//! Names, tags and digests of images.

use regex::Regex;

use super::error::Built;
use super::kustomization::Image;
use super::node::{Kind, Node, Scalar};
use super::resource::Resources;
use super::selector::expression;
use super::specs::{self, FieldSpec, Make};

pub(crate) fn run(image: &Image, specs: &[FieldSpec], resources: &mut Resources) -> Built<()> {
    let pattern =
        expression(&format!("^{}(:[a-zA-Z0-9_.{{}}-]*)?(@sha256:[a-zA-Z0-9_.{{}}-]*)?$", image.name))?;
    let mut change = |node: &mut Node| update(node, image, &pattern);
    for resource in &mut resources.0 {
        if resource.kind() == "CustomResourceDefinition" {
            continue;
        }
        in_containers(&mut resource.node, &mut change)?;
    }
    for resource in &mut resources.0 {
        if resource.kind() == "CustomResourceDefinition" {
            continue;
        }
        for spec in specs {
            specs::visit(&mut resource.node, spec, Make::Nothing, &mut change)?;
        }
    }
    Ok(())
}

/// Every `image` in a list called `containers` or `initContainers`, wherever it is.
fn in_containers(node: &mut Node, change: &mut dyn FnMut(&mut Node) -> Built<()>) -> Built<()> {
    match node {
        Node::Scalar(_) => Ok(()),
        Node::List(items) => items.iter_mut().try_for_each(|one| in_containers(one, change)),
        Node::Map(members) => members.iter_mut().try_for_each(|(key, value)| {
            in_containers(value, change)?;
            if !matches!(key.text.as_str(), "containers" | "initContainers") {
                return Ok(());
            }
            let Node::List(containers) = value else { return Ok(()) };
            for container in containers {
                container.field("image")?;
                if let Some(image) = container.get_mut("image") {
                    change(image)?;
                }
            }
            Ok(())
        }),
    }
}

fn update(node: &mut Node, image: &Image, pattern: &Regex) -> Built<()> {
    node.expect(Kind::Scalar)?;
    if !pattern.is_match(node.text()) {
        return Ok(());
    }
    let (name, mut tag, mut digest) = split(node.text());
    let mut name = if image.new_name.is_empty() { name.to_string() } else { image.new_name.clone() };
    let suffixed;
    match (image.new_tag.is_empty(), image.digest.is_empty()) {
        (false, false) => (tag, digest) = (&image.new_tag, &image.digest),
        (false, true) => (tag, digest) = (&image.new_tag, ""),
        (true, false) => (tag, digest) = ("", &image.digest),
        (true, true) if !image.tag_suffix.is_empty() => {
            suffixed = format!("{tag}{}", image.tag_suffix);
            (tag, digest) = (&suffixed, "");
        }
        (true, true) => {}
    }
    if !tag.is_empty() {
        name = format!("{name}:{tag}");
    }
    if !digest.is_empty() {
        name = format!("{name}@{digest}");
    }
    node.assign(Scalar::open(name))
}

/// Name, tag and digest. A colon before the first slash belongs to a port.
fn split(image: &str) -> (&str, &str, &str) {
    let slash = image.find('/').unwrap_or(0);
    let at = image[slash..].find('@').map(|at| at + slash);
    let colon = image[slash..].find(':').map(|at| at + slash);
    match (colon, at) {
        (None, None) => (image, "", ""),
        (Some(colon), Some(at)) if colon < at => (&image[..colon], &image[colon + 1..at], &image[at + 1..]),
        (_, Some(at)) => (&image[..at], "", &image[at + 1..]),
        (Some(colon), None) => (&image[..colon], &image[colon + 1..], ""),
    }
}
