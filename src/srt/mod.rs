//! SRT: publishers and players over UDP (`srt://`, port 10080), with retransmission and encryption.
//!
//! - **URLs**: `srt://host:10080?streamid=#!::r=app/stream,m=publish`, and the other forms of [`stream_id`].
//! - **Config**: `[srt]`, `[vhost.*.srt]`; passphrases also in `[vhost.*.access]`.

pub mod stream_id;
