//! Resource quantities: parsing, canonical form, arithmetic and comparison, as `resource.Quantity` of apimachinery.
