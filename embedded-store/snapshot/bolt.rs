//! Just enough of bbolt's file format: writing a fresh database of sorted buckets, and walking any database.
//!
//! Facts of the format: pages of 4 KiB (a header of 16 bytes: id, flags, count, overflow), two meta pages
//! with an FNV-1a checksum, a free list (empty here), B+trees of branch and leaf pages whose elements point
//! at their data, one tree of buckets. Written pages are full, in order, and never reused.

use std::io::{self, Seek, SeekFrom, Write};

const PAGE: usize = 4096;
const PAGE_HEADER: usize = 16;
const ELEMENT: usize = 16;
const BRANCH: u16 = 1;
const LEAF: u16 = 2;
const META: u16 = 4;
const FREELIST: u16 = 16;
const MAGIC: u32 = 0xED0C_DAED;
const VERSION: u32 = 2;
const IS_BUCKET: u32 = 1;
/// A tree deeper than this is not one that anybody wrote.
const DEEPEST: usize = 64;

/// A bucket that has been written: its root page, or none for an empty one.
pub(crate) struct Bucket {
    root: Option<u64>,
}

/// A database being written. Data pages follow the two meta pages and the free list.
pub(crate) struct Database<W> {
    out: W,
    next: u64,
}

struct Item {
    flags: u32,
    key: Vec<u8>,
    value: Vec<u8>,
}

/// First key and page of a subtree.
type Child = (Vec<u8>, u64);

impl<W: Write + Seek> Database<W> {
    pub(crate) fn new(mut out: W) -> io::Result<Self> {
        // The first three pages are written last, when it is known what they say.
        out.write_all(&[0; 3 * PAGE])?;
        Ok(Database { out, next: 3 })
    }

    /// Writes the tree of a bucket; entries come in the order of their keys.
    pub(crate) fn bucket(&mut self, entries: impl Iterator<Item = (Vec<u8>, Vec<u8>)>) -> io::Result<Bucket> {
        let items = entries.map(|(key, value)| Item { flags: 0, key, value });
        Ok(Bucket { root: self.tree(items)? })
    }

    /// Writes the tree of buckets and the first pages; returns the length of the database.
    pub(crate) fn finish(mut self, mut buckets: Vec<(Vec<u8>, Bucket)>) -> io::Result<u64> {
        buckets.sort_by(|a, b| a.0.cmp(&b.0));
        let items = buckets.into_iter().map(|(key, bucket)| {
            let mut value = bucket.root.unwrap_or(0).to_le_bytes().to_vec();
            value.extend_from_slice(&[0; 8]);
            if bucket.root.is_none() {
                // An empty bucket has its page, an empty leaf, inside its value.
                value.extend_from_slice(&header(0, LEAF, 0, 0));
            }
            Item { flags: IS_BUCKET, key, value }
        });
        let root = self.tree(items)?.unwrap_or_default();
        let end = self.next;
        self.out.seek(SeekFrom::Start(0))?;
        for number in 0..2 {
            self.out.write_all(&meta(number, root, end))?;
        }
        self.out.write_all(&page(header(2, FREELIST, 0, 0)))?;
        self.out.seek(SeekFrom::End(0))?;
        self.out.flush()?;
        Ok(end * PAGE as u64)
    }

    fn tree(&mut self, items: impl Iterator<Item = Item>) -> io::Result<Option<u64>> {
        let mut children: Vec<Child> = Vec::new();
        let mut pending: Vec<Item> = Vec::new();
        let mut size = PAGE_HEADER;
        for item in items {
            let more = ELEMENT + item.key.len() + item.value.len();
            if !pending.is_empty() && size + more > PAGE {
                children.push(self.leaf(&pending)?);
                pending.clear();
                size = PAGE_HEADER;
            }
            size += more;
            pending.push(item);
        }
        if !pending.is_empty() {
            children.push(self.leaf(&pending)?);
        }
        while children.len() > 1 {
            children = self.level(&children)?;
        }
        Ok(children.pop().map(|(_, root)| root))
    }

    /// Writes the branch pages over a level of the tree.
    fn level(&mut self, below: &[Child]) -> io::Result<Vec<Child>> {
        let mut above = Vec::new();
        let mut start = 0;
        while start < below.len() {
            let mut size = PAGE_HEADER;
            let mut end = start;
            while end < below.len() {
                size += ELEMENT + below[end].0.len();
                // bbolt wants at least two keys on a branch page.
                if end >= start + 2 && size > PAGE {
                    break;
                }
                end += 1;
            }
            // A page needs two entries at least, so no single one may be left over.
            if below.len() - end == 1 && end - start > 2 {
                end -= 1;
            }
            above.push(self.branch(&below[start..end])?);
            start = end;
        }
        Ok(above)
    }

    fn leaf(&mut self, items: &[Item]) -> io::Result<Child> {
        let mut elements = Vec::with_capacity(items.len() * ELEMENT);
        let mut data = Vec::new();
        for (number, item) in items.iter().enumerate() {
            // Positions count from the element itself.
            let position = (items.len() - number) * ELEMENT + data.len();
            elements.extend_from_slice(&item.flags.to_le_bytes());
            for word in [position, item.key.len(), item.value.len()] {
                elements.extend_from_slice(&word32(word)?);
            }
            data.extend_from_slice(&item.key);
            data.extend_from_slice(&item.value);
        }
        let first = items.first().map(|item| item.key.clone()).unwrap_or_default();
        Ok((first, self.page(LEAF, items.len(), &elements, &data)?))
    }

    fn branch(&mut self, children: &[Child]) -> io::Result<Child> {
        let mut elements = Vec::with_capacity(children.len() * ELEMENT);
        let mut data = Vec::new();
        for (number, (key, child)) in children.iter().enumerate() {
            let position = (children.len() - number) * ELEMENT + data.len();
            elements.extend_from_slice(&word32(position)?);
            elements.extend_from_slice(&word32(key.len())?);
            elements.extend_from_slice(&child.to_le_bytes());
            data.extend_from_slice(key);
        }
        let first = children.first().map(|child| child.0.clone()).unwrap_or_default();
        Ok((first, self.page(BRANCH, children.len(), &elements, &data)?))
    }

    /// Writes a page, with as many overflow pages as it needs.
    fn page(&mut self, kind: u16, count: usize, elements: &[u8], data: &[u8]) -> io::Result<u64> {
        let length = PAGE_HEADER + elements.len() + data.len();
        let pages = length.div_ceil(PAGE);
        let id = self.next;
        let count = u16::try_from(count).map_err(io::Error::other)?;
        let overflow = u32::try_from(pages - 1).map_err(io::Error::other)?;
        self.out.write_all(&header(id, kind, count, overflow))?;
        self.out.write_all(elements)?;
        self.out.write_all(data)?;
        self.out.write_all(&vec![0; pages * PAGE - length])?;
        self.next += pages as u64;
        Ok(id)
    }
}

fn word32(number: usize) -> io::Result<[u8; 4]> {
    Ok(u32::try_from(number).map_err(io::Error::other)?.to_le_bytes())
}

fn header(id: u64, flags: u16, count: u16, overflow: u32) -> [u8; PAGE_HEADER] {
    let mut header = [0; PAGE_HEADER];
    header[..8].copy_from_slice(&id.to_le_bytes());
    header[8..10].copy_from_slice(&flags.to_le_bytes());
    header[10..12].copy_from_slice(&count.to_le_bytes());
    header[12..].copy_from_slice(&overflow.to_le_bytes());
    header
}

fn page(header: [u8; PAGE_HEADER]) -> Vec<u8> {
    let mut page = header.to_vec();
    page.resize(PAGE, 0);
    page
}

fn meta(number: u64, root: u64, end: u64) -> Vec<u8> {
    let mut meta = Vec::new();
    for word in [MAGIC, VERSION, PAGE as u32, 0] {
        meta.extend_from_slice(&word.to_le_bytes());
    }
    // Root bucket and its sequence, free list, high-water mark, transaction: the higher one counts.
    for word in [root, 0, 2, end, number + 1] {
        meta.extend_from_slice(&word.to_le_bytes());
    }
    let checksum = fnv(&meta);
    meta.extend_from_slice(&checksum.to_le_bytes());
    let mut out = header(number, META, 0, 0).to_vec();
    out.extend_from_slice(&meta);
    out.resize(PAGE, 0);
    out
}

fn fnv(bytes: &[u8]) -> u64 {
    bytes
        .iter()
        .fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3))
}

/// Why bytes are no database.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BoltError {
    #[error("it is not a bbolt database")]
    NotBolt,
    #[error("pages of {0} bytes are not supported")]
    PageSize(usize),
    #[error("there is something else than a bucket at the top")]
    NotBucket,
    #[error("a bucket is cut short")]
    ShortBucket,
    #[error("a page is cut short")]
    ShortElement,
    #[error("page {0} is cut short")]
    ShortPage(u64),
    #[error("page {0} is missing")]
    Missing(u64),
    #[error("page {0} is another one")]
    WrongPage(u64),
    #[error("a page is absurdly long")]
    LongPage,
    #[error("its tree is too deep")]
    TooDeep,
    #[error("a page of its tree is neither branch nor leaf")]
    PageKind,
}

/// An entry of a bucket.
pub(crate) struct Entry<'a> {
    pub(crate) bucket: &'a [u8],
    pub(crate) key: &'a [u8],
    pub(crate) value: &'a [u8],
}

/// Visits all buckets and their entries in order; returns the size of the database that is in use.
pub(crate) fn walk<'a>(
    bytes: &'a [u8],
    mut bucket: impl FnMut(&'a [u8]),
    mut entry: impl FnMut(Entry<'a>),
) -> Result<u64, BoltError> {
    let reader = Reader::open(bytes)?;
    let mut problem = None;
    let mut visit = |name: &'a [u8], value: &'a [u8]| -> Result<(), BoltError> {
        bucket(name);
        let root = long(value, 0).ok_or(BoltError::ShortBucket)?;
        let each = &mut |_: u32, key, value| {
            entry(Entry { bucket: name, key, value });
            Ok(())
        };
        if root == 0 {
            let inline = value.get(16..).ok_or(BoltError::ShortBucket)?;
            reader.elements(inline, 0, each)
        } else {
            reader.page(root, 0, each)
        }
    };
    reader.page(reader.root, 0, &mut |flags, name, value| {
        if flags & IS_BUCKET == 0 {
            problem = Some(BoltError::NotBucket);
            return Ok(());
        }
        visit(name, value)
    })?;
    match problem {
        Some(problem) => Err(problem),
        None => Ok(reader.end * reader.page_size as u64),
    }
}

struct Reader<'a> {
    bytes: &'a [u8],
    page_size: usize,
    root: u64,
    /// The first page that is not in use.
    end: u64,
}

fn short(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_le_bytes(bytes.get(at..at + 2)?.try_into().ok()?))
}

fn word(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_le_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}

fn long(bytes: &[u8], at: usize) -> Option<u64> {
    Some(u64::from_le_bytes(bytes.get(at..at + 8)?.try_into().ok()?))
}

impl<'a> Reader<'a> {
    fn open(bytes: &'a [u8]) -> Result<Self, BoltError> {
        // The second meta page lies one page on, whatever the size of a page is.
        let sizes = [4096, 8192, 16384, 65536];
        let slots = std::iter::once(0).chain(sizes);
        let valid = slots.filter_map(|at| {
            let meta = bytes.get(at + PAGE_HEADER..at + PAGE_HEADER + 64)?;
            let whole =
                word(meta, 0)? == MAGIC && word(meta, 4)? == VERSION && fnv(&meta[..56]) == long(meta, 56)?;
            whole.then_some((long(meta, 48)?, meta))
        });
        let (_, meta) = valid.max_by_key(|(transaction, _)| *transaction).ok_or(BoltError::NotBolt)?;
        let page_size = word(meta, 8).unwrap_or(0) as usize;
        if !sizes.contains(&page_size) {
            return Err(BoltError::PageSize(page_size));
        }
        let (root, end) = (long(meta, 16).unwrap_or(0), long(meta, 40).unwrap_or(0));
        Ok(Reader { bytes, page_size, root, end })
    }

    fn page(
        &self,
        id: u64,
        depth: usize,
        each: &mut dyn FnMut(u32, &'a [u8], &'a [u8]) -> Result<(), BoltError>,
    ) -> Result<(), BoltError> {
        let start = usize::try_from(id).ok().and_then(|id| id.checked_mul(self.page_size));
        let rest = start.and_then(|start| self.bytes.get(start..)).ok_or(BoltError::Missing(id))?;
        if id < 2 || long(rest, 0) != Some(id) {
            return Err(BoltError::WrongPage(id));
        }
        let overflow = word(rest, 12).ok_or(BoltError::ShortElement)? as usize;
        let length = (overflow + 1).checked_mul(self.page_size).ok_or(BoltError::LongPage)?;
        let page = rest.get(..length).ok_or(BoltError::ShortPage(id))?;
        self.elements(page, depth, each)
    }

    fn elements(
        &self,
        page: &'a [u8],
        depth: usize,
        each: &mut dyn FnMut(u32, &'a [u8], &'a [u8]) -> Result<(), BoltError>,
    ) -> Result<(), BoltError> {
        if depth > DEEPEST {
            return Err(BoltError::TooDeep);
        }
        let cut = || BoltError::ShortElement;
        let (flags, count) = (short(page, 8).ok_or_else(cut)?, short(page, 10).ok_or_else(cut)?);
        for number in 0..usize::from(count) {
            let at = PAGE_HEADER + number * ELEMENT;
            let element = page.get(at..at + ELEMENT).ok_or_else(cut)?;
            if flags & BRANCH != 0 {
                self.page(long(element, 8).ok_or_else(cut)?, depth + 1, each)?;
                continue;
            }
            if flags & LEAF == 0 {
                return Err(BoltError::PageKind);
            }
            let numbers = [0, 4, 8, 12].map(|at| word(element, at).unwrap_or(0));
            let [kind, position, key, value] = numbers.map(|number| number as usize);
            let start = at + position;
            let (key_end, value_end) = (start + key, start + key + value);
            let key = page.get(start..key_end).ok_or_else(cut)?;
            let value = page.get(key_end..value_end).ok_or_else(cut)?;
            each(u32::try_from(kind).unwrap_or(0), key, value)?;
        }
        Ok(())
    }
}
