//! The records of a PAX extended header. Pure.

use super::error::TarFault;

/// What an entry's PAX header says about its name, target and size; other records are of no use here.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Records {
    /// `path`.
    pub(super) path: Option<Vec<u8>>,
    /// `linkpath`.
    pub(super) linkpath: Option<Vec<u8>>,
    /// `size`, as written.
    pub(super) size: Option<String>,
}

/// Read the local header `data`.
///
/// Records are delimited by their lengths, as POSIX says, not by newlines; a key that is there twice, or an empty value
/// for one of the three (which means "ignore the record" to some readers and an empty value to others), is refused.
pub(super) fn local(data: &[u8]) -> Result<Records, TarFault> {
    let mut records = Records::default();
    each(data, |key, value| {
        let slot = match key {
            b"path" => &mut records.path,
            b"linkpath" => &mut records.linkpath,
            b"size" => {
                let text = std::str::from_utf8(value).ok().filter(|text| !text.is_empty());
                let text = text.ok_or(TarFault::PaxMalformed("the size is no number"))?;
                return match records.size.replace(text.to_owned()) {
                    None => Ok(()),
                    Some(_) => Err(TarFault::PaxMalformed("a record is there twice")),
                };
            }
            b"SCHILY.realsize" => return Err(TarFault::Sparse),
            key if key.starts_with(b"GNU.sparse.") => return Err(TarFault::Sparse),
            _ => return Ok(()),
        };
        if value.is_empty() {
            return Err(TarFault::PaxMalformed("a name is empty"));
        }
        match slot.replace(value.to_vec()) {
            None => Ok(()),
            Some(_) => Err(TarFault::PaxMalformed("a record is there twice")),
        }
    })?;
    Ok(records)
}

/// Check the global header `data`, of which nothing is used: git's holds the commit as a comment.
pub(super) fn global(data: &[u8]) -> Result<(), TarFault> {
    const HARMLESS: [&[u8]; 8] = [b"comment", b"mtime", b"atime", b"ctime", b"uid", b"gid", b"uname", b"gname"];
    each(data, |key, _| match HARMLESS.contains(&key) {
        true => Ok(()),
        false => Err(TarFault::PaxGlobal(String::from_utf8_lossy(key).chars().take(40).collect())),
    })
}

/// Give each record's key and value to `take`. A record is `<length> <key>=<value>\n`, its length in decimal counting
/// all of it.
fn each(mut data: &[u8], mut take: impl FnMut(&[u8], &[u8]) -> Result<(), TarFault>) -> Result<(), TarFault> {
    const BAD_LENGTH: TarFault = TarFault::PaxMalformed("a record's length does not fit");
    while !data.is_empty() {
        let space = data.iter().position(|&byte| byte == b' ').ok_or(BAD_LENGTH)?;
        let digits = &data[..space];
        if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
            return Err(BAD_LENGTH);
        }
        let length: usize = std::str::from_utf8(digits).ok().and_then(|text| text.parse().ok()).ok_or(BAD_LENGTH)?;
        let record = data.get(space + 1..length).ok_or(BAD_LENGTH)?;
        let record = record.strip_suffix(b"\n").ok_or(BAD_LENGTH)?;
        let equals = record.iter().position(|&byte| byte == b'=');
        let equals = equals.ok_or(TarFault::PaxMalformed("a record has no \"=\""))?;
        take(&record[..equals], &record[equals + 1..])?;
        data = &data[length..];
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_are_delimited_by_their_lengths() {
        let records = local(b"16 path=a\nb=c/d\n9 size=7\n14 comment=hi\n").unwrap();
        assert_eq!(records.path.as_deref(), Some(&b"a\nb=c/d"[..]));
        assert_eq!(records.size.as_deref(), Some("7"));
    }

    #[test]
    fn what_readers_take_in_different_ways_is_refused() {
        for data in [
            &b"10 path=a\n10 path=b\n"[..],
            b"9 size=1\n9 size=2\n",
            b"8 path=\n",
            b"99 path=a\n",
            b"3 path=a\n",
            b"+10 path=a\n",
            b"10 path=a",
            b"path=a\n",
            b"7 path\n",
            b"18446744073709551616 path=a\n",
            b"0 path=a\n",
        ] {
            assert!(matches!(local(data), Err(TarFault::PaxMalformed(_))), "{}", String::from_utf8_lossy(data));
        }
        assert_eq!(local(b"25 GNU.sparse.realsize=1\n"), Err(TarFault::Sparse));
        assert_eq!(local(b"21 SCHILY.realsize=1\n"), Err(TarFault::Sparse));
    }

    #[test]
    fn a_global_header_may_only_say_what_has_no_effect() {
        assert_eq!(global(b"17 comment=abcde\n"), Ok(()));
        for key in ["path", "linkpath", "size", "GNU.sparse.name"] {
            let record = format!("{} {key}=1\n", key.len() + 6);
            assert_eq!(global(record.as_bytes()), Err(TarFault::PaxGlobal(key.into())), "{record}");
        }
    }
}
