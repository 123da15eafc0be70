//! Hocuspocus framing: many documents on one socket.
