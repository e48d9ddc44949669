//! What went through network interfaces, from `/proc/net/dev`.

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Interface {
    pub(crate) name: String,
    pub(crate) received: Traffic,
    pub(crate) sent: Traffic,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Traffic {
    pub(crate) bytes: u64,
    pub(crate) packets: u64,
    pub(crate) errors: u64,
    pub(crate) dropped: u64,
}

/// All interfaces but the loopback one.
pub(super) fn parse(text: &str) -> Vec<Interface> {
    let one = |line: &str| {
        let (name, numbers) = line.split_once(':')?;
        let numbers: Vec<u64> = numbers.split_whitespace().map_while(|word| word.parse().ok()).collect();
        let traffic = |numbers: &[u64]| match numbers {
            [bytes, packets, errors, dropped, ..] => {
                Some(Traffic { bytes: *bytes, packets: *packets, errors: *errors, dropped: *dropped })
            }
            _ => None,
        };
        let (received, sent) = (traffic(&numbers)?, traffic(numbers.get(8..)?)?);
        Some(Interface { name: name.trim().to_string(), received, sent })
    };
    text.lines().filter_map(one).filter(|one| one.name != "lo").collect()
}

/// The interface of the default route, in `/proc/net/route`.
pub(super) fn default_of(routes: &str) -> Option<String> {
    let mut rows = routes.lines().map(|line| line.split_whitespace());
    rows.find_map(|mut row| {
        let (name, destination) = (row.next()?, row.next()?);
        (destination == "00000000").then(|| name.to_string())
    })
}
