"""What a person looks at: pictures and pages made from artifacts and measurements."""
